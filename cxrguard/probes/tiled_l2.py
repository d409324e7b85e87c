"""Carlini's tiled l2: how near a generated image lies to the training images, nowhere far from the one it copies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.rows import Rows, block_rows

GRID = 4
NEIGHBOURS = 50
_Nearest = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Neighbours:
    """The training images around each sample.

    Attributes:
        distance: ``[N]``, :func:`tiled_l2` to the nearest. Range [0, 2] for images in [−1, 1]; lower means copied.
        index: ``[N]``, which training image that is.
        ratio: ``[N]``, see :func:`neighbour_ratio`. Range [0, 1]; lower means copied.

    """

    distance: Tensor
    index: Tensor
    ratio: Tensor


def tiled_l2(
    samples: Float[Tensor, "n 1 h w"], training: Float[Tensor, "m 1 h w"], *, grid: int = GRID, chunk: int = 256
) -> Float[Tensor, "n m"]:
    """d(x, y) = max over tiles i of ‖x_i − y_i‖₂ / √numel(x_i) (Carlini et al., USENIX Security 2023, sec. 4.2).

    16 tiles that do not overlap; sides that four does not divide give tiles of unequal size. The maximum, where a plain l2 averages: two
    X-rays that share a dark background are not near for it. The root mean square makes sizes of images comparable. Range [0, 2] for
    images in [−1, 1]; lower means copied; exactly 0 for a copy.

    Args:
        samples: generated images, floating point: differences of integers wrap around.
        training: what they may copy.
        grid: tiles a side.
        chunk: samples at once; the distances do not depend on it.

    Raises:
        TypeError: the images are not floating point.
        ValueError: shapes that do not fit, no training image, a side of fewer pixels than tiles, or values that are not finite.

    """
    _check(samples, training, grid)
    tiles = _tiles(training, grid)
    return torch.cat([_farthest_tile(_tiles(part, grid), tiles) for part in samples.split(chunk)])


def neighbours(
    samples: Float[Tensor, "n 1 h w"],
    training: Float[Tensor, "m 1 h w"] | Rows,
    *,
    k: int = NEIGHBOURS,
    grid: int = GRID,
    chunk: int = 256,
) -> Neighbours:
    """Nearest training image of each sample by :func:`tiled_l2`, and how much nearer it is than the next.

    Memory does not depend on how many training images there are: a block is looked at at a time.

    Args:
        samples: see :func:`tiled_l2`.
        training: at least two images.
        k: see :func:`neighbour_ratio`.
        grid: tiles a side.
        chunk: samples at once.

    Raises:
        TypeError: see :func:`tiled_l2`.
        ValueError: see :func:`tiled_l2`; also for one training image, which has no others to compare with, and for ``k`` below 1.

    """
    if k < 1 or len(training) < 2:
        raise ValueError(f"neighbours need k of at least 1 and two training images, not k = {k} and {len(training)}")
    parts = samples.split(chunk)
    found: list[_Nearest | None] = [None] * len(parts)
    start = 0
    for block in training.split(block_rows(training)):
        _check(samples, block, grid)
        tiles = _tiles(block, grid)
        found = [_merge(old, _farthest_tile(_tiles(part, grid), tiles), start, k) for old, part in zip(found, parts, strict=True)]
        start += len(block)
    values, index = (torch.cat(each) for each in zip(*(f for f in found if f is not None), strict=True))
    return Neighbours(values[:, 0], index[:, 0], neighbour_ratio(values))


def neighbour_ratio(nearest: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """d(x, y₁) / mean(d(x, y₂), …, d(x, y₁₊ₖ)): the nearest against the k next.

    Carlini et al.'s adaptive threshold (sec. 4.2: ℓ(x, y₁) / (α · E over the n nearest of ℓ(x, y)), n = 50, α = ½): among images that all
    look alike, or an empty one that is near to everything, a small distance alone is no copy. They count y₁ among the n; leaving it
    out ranks samples in the same way for k = n − 1 and uses the whole range [0, 1]. Lower means copied; 0 for a copy of one image
    and where all distances are 0.

    Args:
        nearest: the k + 1 smallest distances of each sample, ascending.

    """
    mean = nearest[:, 1:].mean(dim=1)
    return torch.where(mean > 0, nearest[:, 0] / mean.clamp_min(torch.finfo(mean.dtype).tiny), 0)


def _merge(old: _Nearest | None, distances: Float[Tensor, "n m"], start: int, k: int) -> _Nearest:
    """The k + 1 smallest distances, ascending, and whose they are, of those so far and of the images from ``start`` on."""
    values, index = distances.topk(min(k + 1, distances.shape[1]), dim=1, largest=False, sorted=True)
    index = index + start
    if old is None:
        return values, index
    values, index = torch.cat([old[0], values], dim=1), torch.cat([old[1], index], dim=1)
    values, order = values.topk(min(k + 1, values.shape[1]), dim=1, largest=False, sorted=True)
    return values, index.gather(1, order)


def _tiles(images: Tensor, grid: int) -> list[Tensor]:
    """``grid²`` tiles of all images, each ``[N, pixels of the tile]``."""
    rows = images[:, 0].tensor_split(grid, dim=1)
    return [tile.flatten(1) for row in rows for tile in row.tensor_split(grid, dim=2)]


def _farthest_tile(samples: list[Tensor], training: list[Tensor]) -> Float[Tensor, "n m"]:
    """The largest of the tiles' distances. Without the matrix-product shortcut, which gives copies a distance above 0."""
    largest = samples[0].new_zeros(len(samples[0]), len(training[0]))
    for a, b in zip(samples, training, strict=True):
        distance = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist") / a.shape[1] ** 0.5
        torch.maximum(largest, distance, out=largest)
    return largest


def _check(samples: Tensor, training: Tensor, grid: int) -> None:
    if not (samples.is_floating_point() and training.is_floating_point()):
        raise TypeError(f"distances need floating-point images, not {samples.dtype} and {training.dtype}: integers wrap around")
    shapes = list(samples.shape), list(training.shape)
    if samples.ndim != 4 or shapes[0][1:] != shapes[1][1:] or samples.shape[1] != 1:
        raise ValueError(f"samples and training images must be [N, 1, H, W] of one size, not {shapes[0]} and {shapes[1]}")
    if len(training) == 0:
        raise ValueError("no training image to compare with")
    side = min(shapes[0][2:])
    if not 1 <= grid <= side:
        raise ValueError(f"grid must be 1 to the image's side {side}, not {grid}")
    if not (torch.isfinite(samples).all() and torch.isfinite(training).all()):
        raise ValueError("images that are not finite are near to nothing, which must not be taken for safe")
