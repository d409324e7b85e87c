"""The ROC curve of a detector and the band that it may lie in, at fixed false positive rates."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrguard.audit.detectors import Scored
from cxrguard.audit.intervals import MIN_CLUSTERS, wilson_of_share
from cxrguard.audit.resampling import Weights, blocks, cluster_ids, draw_clusters
from cxrguard.audit.statistics import Direction, oriented

# Close together where a release is decided, at few false positives.
RATES = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, *(round(0.1 + 0.05 * i, 2) for i in range(19)))
_ROUNDING = 1e-9  # keeps 0.01 * 100 and its like from falling just short of a whole number
_DIGITS = 4


def roc_curve(pos: Scored, neg: Scored, direction: Direction, seed: int = 0, n: int = 1000) -> dict[str, Any] | None:
    """TPR at each of :data:`RATES`, taken at the largest FPR that is not above it, as :func:`~cxrguard.audit.statistics.tpr_at_fpr` does.

    Args:
        pos: scores of canaries that replay.
        neg: scores of controls that do not.
        direction: Which way a score means memorized.
        seed: Fixes the bootstrap.
        n: its draws.

    Returns:
        ``fpr``, ``tpr`` and the 95 % band ``low``, ``high`` (at each rate by itself, not over the whole curve): the wider end of a
        bootstrap over patients of both sides and of Wilson's by the number of positive patients, which has a width at a perfect
        separation too. The band is None with fewer than two patients on a side; all is None if a side is empty.

    """
    if not pos.scores.size or not neg.scores.size:
        return None
    ids = cluster_ids(pos.clusters), cluster_ids(neg.clusters)
    curve = _Curve(oriented(pos.scores, direction), oriented(neg.scores, direction))
    tpr = curve.at(np.ones((1, pos.scores.size)), np.ones((1, neg.scores.size)))[0]
    patients = [int(np.unique(side).size) for side in ids]
    low, high = _band(curve, ids, tpr, patients[0], seed, n) if min(patients) >= MIN_CLUSTERS else (None, None)
    return {"fpr": list(RATES), "tpr": _rounded(tpr), "low": low, "high": high}


class _Curve:
    """The TPR at :data:`RATES` under weights of the scores; higher means memorized."""

    def __init__(self, pos: NDArray[np.float64], neg: NDArray[np.float64]) -> None:
        self._from_top = np.argsort(-neg, kind="stable")
        self._pos_from_top = np.argsort(-pos, kind="stable")
        # of the positives, how many lie above the i-th highest negative
        self._above = pos.size - np.searchsorted(np.sort(pos), neg[self._from_top], side="right")

    def at(self, pos_weights: Weights, neg_weights: Weights) -> Weights:
        """``[B, len(RATES)]`` for weights ``[B, P]`` and ``[B, N]``."""
        passed = np.cumsum(neg_weights[:, self._from_top], axis=1)
        found = np.concatenate([np.zeros((len(pos_weights), 1)), np.cumsum(pos_weights[:, self._pos_from_top], axis=1)], axis=1)
        rows = np.arange(len(passed))
        shares = np.ones((len(passed), len(RATES)))
        for i, rate in enumerate(RATES):
            allowed = np.floor(passed[:, -1] * rate + _ROUNDING)
            first_out = (passed <= allowed[:, None]).sum(axis=1)  # the highest negative that must not pass
            inside = first_out < passed.shape[1]  # else all may pass
            shares[inside, i] = found[rows[inside], self._above[first_out[inside]]] / found[inside, -1]
        return shares


def _band(
    curve: _Curve, ids: tuple[NDArray[np.int64], NDArray[np.int64]], tpr: Weights, patients: int, seed: int, n: int
) -> tuple[list[float], list[float]]:
    generator = np.random.default_rng(seed)
    drawn = [curve.at(*(draw_clusters(side, np.ones(size, dtype=np.int64), generator) for side in ids)) for size in blocks(n)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a draw without a side is NaN and is left out
        low, high = np.nanpercentile(np.concatenate(drawn), [2.5, 97.5], axis=0)
    sizes = [wilson_of_share(float(share), patients) for share in tpr]
    lowest = np.minimum(low, [size[0] for size in sizes])
    highest = np.maximum(high, [size[1] for size in sizes])
    lowest[-1] = highest[-1] = 1.0  # at a rate of 1 all pass, whatever the scores
    return _rounded(lowest), _rounded(highest)


def _rounded(values: Weights) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]
