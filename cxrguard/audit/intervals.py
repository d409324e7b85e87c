"""95 % intervals: Wilson's for a share, a patient-clustered bootstrap for a ROC area."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrguard.audit.statistics import Direction, Scores, auc_of_oriented, oriented

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
    share, z2 = k / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At the ends the bound is exactly 0 or 1; rounding would leave 1e-17.
    return (0.0 if k == 0 else centre - half, 1.0 if k == n else centre + half)


def _groups(clusters: Sequence[object], n: int, name: str) -> list[NDArray[np.int64]]:
    """Positions of each cluster's scores, clusters in order of first appearance."""
    if len(clusters) != n:
        raise ValueError(f"{name}: expected one cluster a score ({n}), received {len(clusters)}")
    positions: dict[object, list[int]] = {}
    for index, cluster in enumerate(clusters):
        positions.setdefault(cluster, []).append(index)
    return [np.asarray(rows, dtype=np.int64) for rows in positions.values()]


def _resample(scores: Scores, groups: list[NDArray[np.int64]], generator: np.random.Generator) -> Scores:
    drawn = generator.integers(0, len(groups), size=len(groups))
    drawn_scores: Scores = scores[np.concatenate([groups[index] for index in drawn])]
    return drawn_scores


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
    pos_groups = _groups(pos_clusters, pos.size, "pos_clusters")
    neg_groups = _groups(neg_clusters, neg.size, "neg_clusters")
    if min(len(pos_groups), len(neg_groups)) < MIN_CLUSTERS:
        return None
    generator = np.random.default_rng(seed)
    areas = [auc_of_oriented(_resample(pos, pos_groups, generator), _resample(neg, neg_groups, generator)) for _ in range(n)]
    low, high = np.percentile(np.asarray(areas, dtype=np.float64), [2.5, 97.5])
    return float(low), float(high)
