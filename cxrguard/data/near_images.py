"""Which images are copies of one another after a change of intensity, a crop of up to 4 % a side or JPEG.

All chest X-rays look alike, so a perceptual hash cannot tell patients apart. Here an image is shrunk to 32 x 32, the mean of its
neighbourhood (5 x 5) is taken off each point, and the points are ranked: no smooth change of intensity moves the ranks, and what is
left is fine structure. Pairs whose ranks correlate by ``ALIKE`` (Spearman's coefficient) are looked at again: one is cropped at each
side in turn, as fits the other best, and a pair that then reaches ``SAME`` is a copy.

Measured on 1,000 real images (NIH ChestX-ray14, 64 pixels a side; ``tests/unit/data/test_duplicates_real.py`` does it again): see
:mod:`cxrguard.data.duplicates`. The comparison is of all with all, in blocks of matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrguard.data.grouping import Labels
from cxrguard.progress import progress_of

SIDE, REACH = 32, 2
ALIKE, SAME = 0.7, 0.85
MAX_ALIGNED = 2  # pairs an image, about 3 ms each; 100,000 chest X-rays have one each, and only images that are drawn have more
_CROPS = (0.0, 0.01, 0.02, 0.03, 0.04)  # of the side
_DETAIL = 64  # pixels a side that are cropped
_BLOCK = 2048

Ranks = NDArray[np.int8]
Floats = NDArray[np.float32]
Crop = tuple[float, ...]


@dataclass(frozen=True)
class NearImages:
    """Labels by :class:`~cxrguard.data.grouping.Labels`, and the pairs that were alike but one too many to look at."""

    labels: NDArray[np.int64]
    unchecked: int


def find_near_images(pixels: Sequence[NDArray[np.uint8]], rows: Sequence[int]) -> NearImages:
    """Group near copies.

    Args:
        pixels: images ``[H, W]``, may be memory-mapped; read twice, one after the other.
        rows: the images to compare; labels are places in this list.

    """
    with progress_of("looking for copies: images read", len(rows)) as advance:
        ranks = np.zeros((len(rows), SIDE**2), np.int8)
        for place, row in enumerate(rows):
            ranks[place] = _ranks(_shrink(pixels[row], SIDE))
            advance(1)
    labels, left, unchecked = Labels(len(rows)), MAX_ALIGNED * len(rows), 0
    for first, second, likeness in _alike(ranks):
        sure = likeness >= SAME
        labels.join(first[sure], second[sure])
        likely = np.flatnonzero(~sure)[np.argsort(-likeness[~sure], kind="stable")]
        for a, b in zip(first[likely], second[likely], strict=True):
            if labels.labels[a] == labels.labels[b]:
                continue
            if left == 0:
                unchecked += 1
                continue
            left -= 1
            if _aligned(pixels[rows[a]], pixels[rows[b]]) >= SAME:
                labels.join(np.array([a]), np.array([b]))
    return NearImages(labels.labels, unchecked)


def _alike(ranks: Ranks) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Pairs of images whose ranks correlate by ``ALIKE`` or more, a block at a time, with how much."""
    starts = range(0, len(ranks), _BLOCK)
    with progress_of("looking for copies: blocks compared", len(starts) * (len(starts) + 1) // 2) as advance:
        for i, j in combinations_with_replacement(starts, 2):
            likeness = _unit(ranks[i : i + _BLOCK]) @ _unit(ranks[j : j + _BLOCK]).T
            first, second = np.nonzero(likeness >= ALIKE)
            keep = i + first < j + second
            first, second = first[keep], second[keep]
            if len(first):
                yield i + first, j + second, likeness[first, second]
            advance(1)  # after the closer look at the block's pairs


@lru_cache(maxsize=256)
def _areas(pixels: int, side: int, start: float = 0.0, end: float = 0.0) -> Floats:
    """``[side, pixels]``: the mean over each of ``side`` equal stretches of a line, cropped by these shares at its two ends."""
    edges = np.linspace(start * pixels, (1 - end) * pixels, side + 1)[:, None]
    pixel = np.arange(pixels)
    covered = np.minimum(edges[1:], pixel + 1) - np.maximum(edges[:-1], pixel)
    return np.asarray(np.maximum(covered, 0) / (edges[1] - edges[0]), np.float32)


def _shrink(image: NDArray[Any], side: int, crop: Crop = (0, 0, 0, 0)) -> Floats:
    """``[side, side]`` means of areas, after a crop of these shares at the left, top, right and bottom."""
    left, top, right, bottom = crop
    down, across = _areas(image.shape[0], side, top, bottom), _areas(image.shape[1], side, left, right)
    return np.asarray(down @ np.asarray(image, np.float32) @ across.T, np.float32)


@lru_cache(maxsize=1)
def _blur() -> Floats:
    """``[SIDE, SIDE]``: the mean over the neighbours of each point of a line, its ends repeated."""
    matrix = np.zeros((SIDE, SIDE), np.float32)
    for offset in range(-REACH, REACH + 1):
        matrix[np.arange(SIDE), np.clip(np.arange(SIDE) + offset, 0, SIDE - 1)] += 1 / (2 * REACH + 1)
    return matrix


def _structure(thumbs: Floats) -> Floats:
    """What each point of ``[..., SIDE, SIDE]`` differs by from its neighbourhood, ``[..., SIDE * SIDE]``."""
    detail = thumbs - _blur() @ thumbs @ _blur().T
    return np.asarray(detail.reshape(*thumbs.shape[:-2], SIDE**2), np.float32)


def _ranks(thumb: Floats) -> Ranks:
    """Ranks of the fine structure, ``[SIDE * SIDE]`` in -128..127; zeros for an image of one value."""
    ranks = np.zeros(SIDE**2, np.int8)
    if np.ptp(thumb) > 0.5:  # of 255: sums of equal values differ in their last digits
        ranks[_structure(thumb).argsort(kind="stable")] = np.arange(SIDE**2) * 256 // SIDE**2 - 128
    return ranks


def _unit(values: NDArray[Any]) -> Floats:
    """Vectors of mean 0 and length 1, so that a product is a correlation; zeros stay."""
    centred = values - values.mean(axis=-1, keepdims=True, dtype=np.float32)
    lengths = np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.asarray(centred / np.maximum(lengths, 1e-6), np.float32)


def _aligned(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """How alike two images are after the better of them is cropped to fit the other."""
    one, other = (_shrink(image, _DETAIL) for image in (a, b))
    return max(_fit(one, other), _fit(other, one))


def _fit(whole: Floats, part: Floats) -> float:
    """Crop ``whole`` side by side, each time by what fits ``part`` best; ranks are taken at the end, as they take longest."""
    thumb = _shrink(part, SIDE)
    target = _unit(_structure(thumb))
    crop: Crop = (0.0, 0.0, 0.0, 0.0)
    for side in (0, 1, 2, 3, 0, 1, 2, 3):
        tried = [(*crop[:side], share, *crop[side + 1 :]) for share in _CROPS]
        down = np.stack([_areas(_DETAIL, SIDE, top, bottom) for _, top, _, bottom in tried])
        across = np.stack([_areas(_DETAIL, SIDE, left, right) for left, _, right, _ in tried])
        thumbs = np.asarray(down @ whole @ across.transpose(0, 2, 1), np.float32)
        fits = _unit(_structure(thumbs)) @ target
        crop = tried[int(fits.argmax())]
    return float(_unit(_ranks(_shrink(whole, SIDE, crop))) @ _unit(_ranks(thumb)))
