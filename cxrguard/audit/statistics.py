"""How well a score tells memorized prompts from others: ROC area, TPR at a low FPR. Pure NumPy.

``direction`` says which way a score points: ``"higher"`` means a higher score is a sign of memorization.
A figure that the data cannot give is None, never 0.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Direction = Literal["higher", "lower"]
Scores = NDArray[np.float64]


def oriented(scores: ArrayLike, direction: Direction) -> Scores:
    """Scores ``[N]`` turned so that higher means memorized.

    Raises:
        ValueError: for an unknown direction, or a score that is NaN (it would be ranked silently).

    """
    if direction not in get_args(Direction):
        raise ValueError(f"direction: expected 'higher' or 'lower', received {direction!r}")
    values = np.asarray(scores, dtype=np.float64).reshape(-1)
    if np.isnan(values).any():
        raise ValueError(f"{int(np.isnan(values).sum())} of {values.size} scores are NaN: leave them out, and say how many")
    return values if direction == "higher" else -values


def auc_of_oriented(positives: Scores, negatives: Scores) -> float | None:
    """``P(positive > negative) + P(tie) / 2`` (Mann-Whitney U / (n·m)), higher meaning positive, in O(n log m)."""
    if positives.size == 0 or negatives.size == 0:
        return None
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left")
    up_to = np.searchsorted(ordered, positives, side="right")
    return float((below + up_to).sum() / (2.0 * positives.size * negatives.size))


def roc_auc(positives: ArrayLike, negatives: ArrayLike, direction: Direction = "higher") -> float | None:
    """Area under the ROC curve; a tie counts half.

    Args:
        positives: Scores ``[P]`` of memorized prompts.
        negatives: Scores ``[N]`` of prompts that are not.
        direction: Which way memorized scores lie.

    Returns:
        A number in [0, 1] (0.5 is chance), or None if a side is empty.

    """
    return auc_of_oriented(oriented(positives, direction), oriented(negatives, direction))


def threshold_at_fpr(negatives: ArrayLike, max_fpr: float, direction: Direction = "higher") -> float | None:
    """The score a prompt must lie *strictly beyond* so that at most ``max_fpr`` of the negatives do.

    Beyond means above for ``"higher"``, below for ``"lower"``. It is the loosest such threshold: the FPR is the largest
    that is still <= ``max_fpr`` (the *nearest* FPR may be three times too high).

    Returns:
        The threshold in the score's own units; None with fewer than ``1 / max_fpr`` negatives, which cannot show that rate.

    Raises:
        ValueError: unless 0 < ``max_fpr`` < 1.

    """
    if not 0.0 < max_fpr < 1.0:
        raise ValueError(f"max_fpr: expected a number between 0 and 1, received {max_fpr}")
    values = oriented(negatives, direction)
    # 1e-9 keeps 0.01 * 100 and its like from falling just short of a whole number.
    allowed = min(math.floor(values.size * max_fpr + 1e-9), values.size - 1)
    if allowed < 1:
        return None
    # At the (allowed + 1)-th highest, only what is strictly above passes: at most `allowed`, ties included.
    cut = float(np.sort(values)[::-1][allowed])
    return cut if direction == "higher" else -cut


def tpr_at_fpr(positives: ArrayLike, negatives: ArrayLike, max_fpr: float, direction: Direction = "higher") -> float | None:
    """Share of positives found at the largest FPR that is still <= ``max_fpr``.

    Returns:
        A number in [0, 1]; None without positives or with fewer than ``1 / max_fpr`` negatives.

    """
    threshold = threshold_at_fpr(negatives, max_fpr, direction)
    found = oriented(positives, direction)
    if threshold is None or found.size == 0:
        return None
    return float(np.mean(found > (threshold if direction == "higher" else -threshold)))
