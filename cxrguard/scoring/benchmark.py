"""The memorized-prompt benchmark: the prompts that score highest, by share or by z-score."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from cxrguard.pseudonym import load_key, pseudonym
from cxrguard.sanitizer.conventions import AUTO, has_marker, load_conventions
from cxrguard.scoring.cells import MadeBatch, finite
from cxrguard.tables import open_writer

_ROWS = 1000


@dataclass(frozen=True)
class Selection:
    """Which prompts are taken.

    Attributes:
        numbers: of the prompts, the most memorized first.
        percentile: of every prompt, NaN without a score: the share of prompts that score lower, ties by half, 0 to 100.
        z: of every prompt: (score − mean) / standard deviation; NaN without a score, or if all are alike.
        by_top: how many are within the share.
        by_zscore: how many have the z-score.

    """

    numbers: np.ndarray
    percentile: np.ndarray
    z: np.ndarray
    by_top: int
    by_zscore: int


def select(scores: np.ndarray, top: Fraction | int | None, zscore: float | None) -> Selection:
    """Takes a prompt that is within the top or has the z-score.

    Args:
        scores: ``[n]``, higher means memorized; one that is no number is never taken.
        top: a share of the prompts, rounded up, or a number of them. Of equal scores the prompt met first comes first.
        zscore: the least z-score.

    """
    known = np.isfinite(scores)
    values = scores[known].astype(np.float64)
    percentile, z = (np.full(len(scores), np.nan) for _ in range(2))
    percentile[known] = _percentiles(values)
    if len(values) and values.std() > 0:
        z[known] = (values - values.mean()) / values.std()
    order = np.argsort(np.where(known, -scores.astype(np.float64), np.inf), kind="stable")[: len(values)]
    wanted = 0 if top is None else min(len(values), math.ceil(top * len(values)) if isinstance(top, Fraction) else top)
    far = z[order] >= zscore if zscore is not None else np.zeros(len(order), bool)
    taken = (np.arange(len(order)) < wanted) | far
    return Selection(order[taken], percentile, z, wanted, int(far.sum()))


def _percentiles(values: np.ndarray) -> np.ndarray:
    ordered = np.sort(values)
    below, up_to = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    shares: np.ndarray = 100 * (below + up_to) / 2 / max(1, len(values))
    return shares


class Collector:
    """What the benchmark says of prompts beside their scores; it is shown every row of the table.

    Args:
        selection: which prompts are taken.
        n: how many prompts there are.
        show: keep the text of those taken.

    Attributes:
        marked: which prompts have a de-identification marker.
        rows: rows of each prompt.

    """

    def __init__(self, selection: Selection, n: int, *, show: bool) -> None:
        self.selection, self.show = selection, show
        self.marked, self.rows = np.zeros(n, bool), np.zeros(n, np.int64)
        self._key = load_key()
        self._conventions = load_conventions([AUTO])
        self._taken = {int(number) for number in selection.numbers}
        self._named: dict[int, tuple[str, ...]] = {}

    def see(self, number: int, prompt: str) -> None:
        """Takes note of a row."""
        self.rows[number] += 1
        if self.rows[number] > 1:
            return
        self.marked[number] = has_marker(prompt, self._conventions)
        if number in self._taken:
            self._named[number] = (pseudonym(self._key, prompt), *((prompt,) if self.show else ()))

    def write(self, path: str, file: BinaryIO, columns: Sequence[str], scores: np.ndarray) -> None:
        """Writes the benchmark, a row a prompt taken."""
        first = ["prompt_hash", *(["prompt"] if self.show else [])]
        added: dict[str, type] = {
            "rows": int, "marked": bool, **dict.fromkeys(columns, float), "percentile": float, "zscore": float,
        }  # fmt: skip
        writer = open_writer(path, file, first[0], tuple(added), tuple(added.values()))
        numbers = [int(number) for number in self.selection.numbers]
        for start in range(0, max(1, len(numbers)), _ROWS):
            some = numbers[start : start + _ROWS]
            batch = MadeBatch(path, start + 1, [], [self._named[number] for number in some], first)
            writer.write(batch, list(self._cells(some, scores)))
        writer.finish()

    def _cells(self, numbers: Sequence[int], scores: np.ndarray) -> Iterator[tuple[Any, ...]]:
        for number in numbers:
            figures = (*scores[number], self.selection.percentile[number], self.selection.z[number])
            yield (int(self.rows[number]), bool(self.marked[number]), *map(finite, figures))
