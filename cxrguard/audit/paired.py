"""Paired differences: their mean and its 95 % interval, whole clusters (patients) kept together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrguard.audit.intervals import MIN_CLUSTERS, Z_95, Interval, wider, wilson_of_share
from cxrguard.audit.resampling import bootstrap_mean, cluster_ids

MIN_PAIRS = 2
Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
_T_95 = {1: 12.7062, 2: 4.3027}  # the expansion is too small there


def mean_difference(differences: ArrayLike, clusters: Sequence[object] | None = None, seed: int = 0, n: int = 2000) -> dict[str, Any]:
    """The mean of paired differences of a score.

    The interval is the wider end, each side, of a percentile bootstrap over clusters and of :func:`t_interval`: a bootstrap of few
    prompts is too narrow.

    Args:
        differences: one a pair.
        clusters: whom each is of (patient, prompt); each its own by default.
        seed: of the draws.
        n: number of draws.

    Returns:
        ``n`` (pairs that count), ``n_clusters``, ``mean``, ``ci``, ``reason``: why something is null or left out.

    Raises:
        ValueError: Unless there is a cluster for each difference.

    """
    given = np.asarray(differences, dtype=np.float64).reshape(-1)
    names = list(range(given.size)) if clusters is None else list(clusters)
    if len(names) != given.size:
        raise ValueError(f"clusters: expected one a difference ({given.size}), received {len(names)}")
    known = np.isfinite(given)
    values, ids = given[known], cluster_ids([name for name, kept in zip(names, known, strict=True) if kept])
    told = _told(values, ids, int((~known).sum()))
    if told["mean"] is not None and not told["reason"] and np.ptp(values) == 0:
        told["reason"] = "no interval: all differences are the same, which says nothing of their spread"
    elif told["mean"] is not None and told["n_clusters"] >= MIN_CLUSTERS:
        told["ci"] = wider(bootstrap_mean(values, ids, seed, n), t_interval(values, ids))
    return told


def share_difference(
    first: ArrayLike, second: ArrayLike, clusters: Sequence[object] | None = None, seed: int = 0, n: int = 2000
) -> dict[str, Any]:
    """The difference of two paired shares: how often the first outcome happens less how often the second does.

    The interval is the wider end, each side, of a percentile bootstrap over clusters and of :func:`newcombe_paired` (counts scaled to
    the number of clusters), which has a width when all pairs are alike.

    Args:
        first: whether it happened, one a pair.
        second: the same pairs.
        clusters: see :func:`mean_difference`.
        seed: of the draws.
        n: number of draws.

    Returns:
        As :func:`mean_difference`.

    Raises:
        ValueError: Unless both have the same length, and a cluster for each pair.

    """
    one, other = (np.asarray(hits, dtype=bool).reshape(-1) for hits in (first, second))
    names = list(range(one.size)) if clusters is None else list(clusters)
    if not one.size == other.size == len(names):
        raise ValueError(f"expected as many outcomes and clusters on both sides, received {one.size}, {other.size} and {len(names)}")
    values, ids = one.astype(np.float64) - other, cluster_ids(names)
    told = _told(values, ids, 0)
    if told["mean"] is not None and told["n_clusters"] >= MIN_CLUSTERS:
        scale = told["n_clusters"] / values.size
        cells = (scale * float(cell.sum()) for cell in (one & other, one & ~other, ~one & other, ~one & ~other))
        told["ci"] = wider(bootstrap_mean(values, ids, seed, n), newcombe_paired(*cells))
    return told


def _told(values: Floats, ids: Ids, lost: int) -> dict[str, Any]:
    n_clusters = int(ids.max()) + 1 if ids.size else 0
    reasons = [f"{lost} differences were not finite and are left out"] if lost else []
    enough = values.size >= MIN_PAIRS
    if not enough:
        reasons.append(f"two pairs are needed; there {'is' if values.size == 1 else 'are'} {values.size}")
    elif n_clusters < MIN_CLUSTERS:
        reasons.append("no interval: all pairs are of one cluster")
    mean = float(values.mean()) if enough else None
    return {"n": int(values.size), "n_clusters": n_clusters, "mean": mean, "ci": None, "reason": "; ".join(reasons) or None}


def t_interval(values: Floats, ids: Ids) -> Interval:
    """Student's 95 % interval of a mean, cluster-robust: V = G/(G − 1) Σ_g (Σ_{i in g} (x_i − x̄))² / N², G − 1 degrees of freedom."""
    mean, sums = values.mean(), np.bincount(ids, weights=values - values.mean())
    groups = sums.size
    half = t_95(groups - 1) * math.sqrt(groups / (groups - 1) * float((sums**2).sum())) / values.size
    return float(mean - half), float(mean + half)


def t_95(df: int) -> float:
    """The 97.5th percentile of Student's t, by its expansion in 1/df (Abramowitz and Stegun 26.7.5; within 1 % from 3 on)."""
    if df in _T_95:
        return _T_95[df]
    z = Z_95
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return float(z + sum(term / df**power for power, term in enumerate(terms, start=1)))


def newcombe_paired(both: float, first: float, second: float, neither: float) -> Interval:
    """95 % interval of a difference of paired shares (Newcombe 1998, Statistics in Medicine 17:2635, method 10).

    Args:
        both: pairs in which both happened; like the others a count, which need not be whole.
        first: only the first.
        second: only the second.
        neither: none.

    Returns:
        Bounds of (both + first)/n − (both + second)/n.

    """
    n = both + first + second + neither
    p1, p2 = (both + first) / n, (both + second) / n
    (low1, high1), (low2, high2) = wilson_of_share(p1, n), wilson_of_share(p2, n)
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    excess = both * neither - first * second
    corrected = max(excess - n / 2, 0.0) if excess > 0 else excess
    phi = corrected / math.sqrt(product) if product > 0 else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))

    return p1 - p2 - reach(p1 - low1, high2 - p2), p1 - p2 + reach(high1 - p1, p2 - low2)
