"""What counts as extracted: pure functions on images, with a threshold that comes from real images alone.

A sample *replays* a training image when it lies nearer to it than 99 % of *real* held-out images lie to theirs. The
threshold never comes from generated images: a leaking model would raise it (see DESIGN, section 6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cxrguard.rows import Rows, block_rows

MIN_NULL = 100
_SAMPLE_BLOCKS = 4  # each part of the samples is one more reading of all training images


def nearest(
    samples: Float[Tensor, "n d"] | Rows,
    training: Float[Tensor, "m d"] | Rows,
    chunk: int = 512,
    on_part: Callable[[int], None] | None = None,
) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Mean squared distance to the nearest training image, and which it is, the first of equally near ones.

    Memory does not depend on how many images there are: of either, a block is looked at at a time.

    Args:
        samples: flattened float images or latents, ``[N, D]``; integers are refused, since their differences wrap around.
        training: the training images in the same space, ``[M, D]``.
        chunk: samples at once.
        on_part: hears how many samples are newly done.

    Raises:
        TypeError: the inputs are not floating point.
        ValueError: there is no training image.

    """
    if len(training) == 0:
        raise ValueError("no training image to be nearest to")
    parts = []
    for part in samples.split(min(chunk, _SAMPLE_BLOCKS * block_rows(samples))):
        parts.append(_nearest_of_part(part, training))
        if on_part:
            on_part(len(part))
    if not parts:
        return torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    distance = torch.cat([values for values, _ in parts]).square() / samples.shape[1]
    return distance, torch.cat([indices for _, indices in parts])


def _nearest_of_part(part: Float[Tensor, "n d"], training: Rows) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Euclidean distance to the nearest of all training images, block by block, and which it is."""
    best: tuple[Tensor, Tensor] | None = None
    start = 0
    for block in training.split(block_rows(training)):
        if not (part.is_floating_point() and block.is_floating_point()):
            raise TypeError("distances need floating-point images: differences of integers wrap around")
        # Without the matrix-product shortcut, which gives copies a distance above 0.
        values, indices = torch.cdist(part, block, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
        found = values, indices + start
        start += len(block)
        if best is not None:
            nearer = (values < best[0]) | values.isnan()
            found = torch.where(nearer, values, best[0]), torch.where(nearer, found[1], best[1])
        best = found
    assert best is not None
    return best


def replay_threshold(null_distances: Float[Tensor, " n"], quantile: float = 0.01) -> float | None:
    """The ``quantile`` of *real* held-out images' distances to their nearest training image.

    The lower of the two neighbouring order statistics, so that chance alone stays at or under the quantile. None with
    fewer than :data:`MIN_NULL` images: a 1 % quantile cannot be had from them.
    """
    if len(null_distances) < MIN_NULL:
        return None
    return float(torch.quantile(null_distances.double(), quantile, interpolation="lower"))


def chance_rate(n_null: int, quantile: float = 0.01) -> float:
    """Share of honest real images expected below :func:`replay_threshold` of ``n_null`` images: (rank + 1) / (n + 1).

    Above the quantile itself for few images: 1.9 % with 107.
    """
    return (int(quantile * (n_null - 1)) + 1) / (n_null + 1)


@dataclass(frozen=True)
class Replays:
    """What the samples of a group replay, in one space.

    Attributes:
        own: ``[N, K]``, the sample's nearest image is the prompt's own, below the threshold.
        any: ``[N, K]``, it is any training image, below the threshold.
        distance: ``[N, K]`` to the nearest training image.
        index: ``[N, K]`` which training image that is.

    """

    own: Tensor
    any: Tensor
    distance: Tensor
    index: Tensor

    def rate(self, outcome: str, k: int) -> float | None:
        """Share of prompts with such a sample among their first ``k`` draws; None for an empty group."""
        hits = self.hits(outcome, k)
        return float(hits.float().mean()) if len(hits) else None

    def landing_on(self, rows: Int[Tensor, " c"], k: int) -> float | None:
        """Of the samples among the first ``k`` draws that replay, the share whose training image is one of ``rows``."""
        replayed = self.any[:, :k]
        if not replayed.any():
            return None
        return float(torch.isin(self.index[:, :k][replayed], rows).double().mean())

    def hits(self, outcome: str, k: int) -> Bool[Tensor, " n"]:
        """Per prompt: whether one of the first ``k`` draws is such a sample."""
        values: Tensor = getattr(self, outcome)
        return values[:, :k].any(dim=1)


def find_replays(
    samples: Float[Tensor, "n k d"],
    training: Float[Tensor, "m d"] | Rows,
    own_index: Int[Tensor, " n"],
    threshold: float,
    own: Float[Tensor, "n d"] | None = None,
    owner: Int[Tensor, " m"] | None = None,
) -> Replays:
    """Compare every sample with every training image.

    Args:
        samples: ``K`` samples of each of ``N`` prompts.
        training: all training images, those of a base stage too.
        own_index: row of each prompt's own image in ``training``, −1 where it was never trained on.
        threshold: see :func:`replay_threshold`.
        own: the prompts' own images, ``[N, D]``; for a prompt that was never trained on (a control) a sample counts as its
            own image when that is nearer than every training image and below the threshold: the rate at which own images
            come without any training on them.
        owner: whose image each training image is, where some are near copies of others; a copy counts as the image itself, and
            :attr:`Replays.index` names that.

    """
    n, k, d = samples.shape
    distance, index = nearest(samples.reshape(n * k, d), training)
    index = index if owner is None else owner[index]
    distance, index = distance.reshape(n, k), index.reshape(n, k)
    below = distance < threshold
    hits = below & (index == own_index[:, None])
    if own is not None:
        to_own = (samples - own[:, None]).square().mean(dim=2)
        hits |= (own_index == -1)[:, None] & (to_own < threshold) & (to_own < distance)
    return Replays(hits, below, distance, index)
