"""95 % intervals: Wilson's for a share; for a ROC area a patient-clustered bootstrap and one from its size alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrguard.audit.resampling import Weights, cluster_ids, draw_clusters, percentiles, weighted_auc
from cxrguard.audit.statistics import Direction, auc_of_oriented, oriented

Z_95 = 1.959963984540054
Interval = tuple[float, float]
MIN_CLUSTERS = 2  # resampling a single patient always gives the same patient: a width of 0 that is not knowledge


def wilson(k: int, n: int) -> Interval | None:
    """Wilson's 95 % score interval for ``k`` of ``n``.

    It stays honest at the ends: 0 of 30 still has an upper bound of 11 %.

    Returns:
        ``(low, high)`` in [0, 1], or None for ``n == 0``.

    Raises:
        ValueError: unless 0 <= k <= n.

    """
    if not 0 <= k <= n:
        raise ValueError(f"k of n: expected 0 <= k <= n, received k={k}, n={n}")
    if n == 0:
        return None
    return wilson_of_share(k / n, n)


def wilson_of_share(share: float, n: float) -> Interval:
    """:func:`wilson` of ``share`` of ``n`` where neither count need be whole; ``n`` is above 0."""
    z2 = Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At the ends the bound is exactly 0 or 1; rounding would leave 1e-17.
    return (0.0 if share == 0 else centre - half, 1.0 if share == 1 else centre + half)


def wider(*intervals: Interval | None) -> list[float] | None:
    """The wider end, each side, of those that could be had; None without any."""
    known = [interval for interval in intervals if interval is not None]
    return [min(low for low, _ in known), max(high for _, high in known)] if known else None


def _ids(clusters: Sequence[object], n: int, name: str) -> NDArray[np.int64]:
    if len(clusters) != n:
        raise ValueError(f"{name}: expected one cluster a score ({n}), received {len(clusters)}")
    return cluster_ids(clusters)


def bootstrap_auc(
    positives: ArrayLike,
    negatives: ArrayLike,
    pos_clusters: Sequence[object],
    neg_clusters: Sequence[object],
    direction: Direction = "higher",
    seed: int = 0,
    n: int = 2000,
) -> Interval | None:
    """95 % percentile interval of the ROC area, whole patients resampled, each side apart.

    A patient's studies look alike, so resampling single scores would make the interval too narrow.

    Args:
        positives: Scores ``[P]`` of memorized prompts.
        negatives: Scores ``[N]`` of the others.
        pos_clusters: The patient of each positive; any hashable values.
        neg_clusters: The patient of each negative.
        direction: Which way memorized scores lie.
        seed: Fixes the draws.
        n: Number of draws.

    Returns:
        ``(low, high)``, or None if a side has fewer than two patients.

    """
    pos, neg = oriented(positives, direction), oriented(negatives, direction)
    pos_ids = _ids(pos_clusters, pos.size, "pos_clusters")
    neg_ids = _ids(neg_clusters, neg.size, "neg_clusters")
    if min(np.unique(pos_ids).size, np.unique(neg_ids).size) < MIN_CLUSTERS:
        return None
    generator = np.random.default_rng(seed)

    def draw(size: int) -> Weights:
        once = np.ones(size, dtype=np.int64)
        return weighted_auc(pos, neg, draw_clusters(pos_ids, once, generator), draw_clusters(neg_ids, once, generator))

    return percentiles(draw, n)


def newcombe_auc(auc: float, n_positives: int, n_negatives: int) -> Interval:
    """95 % score interval of a ROC area from its size alone (Newcombe 2006, Statistics in Medicine 25:559, method 5).

    The bounds are the areas A with |AUC − A| = z √V(A), V(A) = A(1 − A)(1 + N(1 − A)/(2 − A) + N A/(1 + A)) / (mn),
    N = (m + n)/2 − 1. Unlike a bootstrap it has a width at a perfect separation.
    """
    pairs, extra = n_positives * n_negatives, (n_positives + n_negatives) / 2 - 1

    def off(area: float) -> float:
        variance = area * (1 - area) * (1 + extra * (1 - area) / (2 - area) + extra * area / (1 + area)) / pairs
        return abs(auc - area) - Z_95 * math.sqrt(max(variance, 0.0))

    def bound(outer: float) -> float:
        # off() is above 0 at the outer end and at most 0 at the area itself
        inside, outside = auc, outer
        if off(outside) <= 0:
            return outside
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if off(middle) <= 0 else (inside, middle)
        return inside

    return bound(0.0), bound(1.0)


def auc_interval(
    positives: ArrayLike,
    negatives: ArrayLike,
    pos_clusters: Sequence[object],
    neg_clusters: Sequence[object],
    direction: Direction = "higher",
    seed: int = 0,
    n: int = 2000,
) -> list[float] | None:
    """The wider end, each side, of :func:`bootstrap_auc` and :func:`newcombe_auc` (by patients).

    A bootstrap of perfectly separated scores has no width, whatever their number; that is not knowledge.
    """
    resampled = bootstrap_auc(positives, negatives, pos_clusters, neg_clusters, direction, seed, n)
    area = auc_of_oriented(oriented(positives, direction), oriented(negatives, direction))
    if resampled is None or area is None:
        return None
    return wider(resampled, newcombe_auc(area, len(set(pos_clusters)), len(set(neg_clusters))))
