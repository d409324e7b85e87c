"""Exposure: how far a canary stands out among prompts that were never trained on, in bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxrguard.audit.resampling import bootstrap_mean, cluster_ids

Scores = NDArray[np.float64]
MIN_CANARIES = 2  # resampling a single canary always gives the same one


def exposure(canaries: Scores, controls: Scores) -> Scores:
    """log₂(m + 1) − log₂(rank) of each canary among ``m`` controls (Carlini et al. 2019, The Secret Sharer, definition 4).

    The reference is the controls instead of the whole space of canaries, so the most that can be shown is log₂(m + 1).
    A tie counts half a rank. Give *all* controls, those that replay too: without the ones that look most memorized an
    unmemorized canary would stand out.

    Args:
        canaries: scores ``[N]``, higher meaning memorized.
        controls: scores ``[M]`` of the same direction.

    Returns:
        Bits ``[N]`` in [0, log₂(M + 1)]; an unmemorized canary has about 1.44 in the mean (1 / ln 2).

    """
    ordered = np.sort(controls)
    above = ordered.size - np.searchsorted(ordered, canaries, side="right")
    ties = np.searchsorted(ordered, canaries, side="right") - np.searchsorted(ordered, canaries, side="left")
    rank = 1 + above + ties / 2
    bits: Scores = np.log2(ordered.size + 1) - np.log2(rank)
    return bits


def mean_exposure(
    canaries: Scores, controls: Scores, clusters: Sequence[object], seed: int = 0, n: int = 1000
) -> tuple[float, list[float] | None] | None:
    """The canaries' mean exposure and its 95 % interval, the canaries' patients resampled; the controls are as they are.

    Args:
        canaries: finite scores ``[N]``, higher meaning memorized.
        controls: finite scores ``[M]`` of the same direction.
        clusters: the canaries' patients.
        seed: of the draws.
        n: number of draws.

    Returns:
        Bits, and the interval (None with a single patient); None if a side is empty.

    """
    if not canaries.size or not controls.size:
        return None
    bits, ids = exposure(canaries, controls), cluster_ids(clusters)
    if np.unique(ids).size < MIN_CANARIES:
        return float(bits.mean()), None
    interval = bootstrap_mean(bits, ids, seed, n)
    return float(bits.mean()), None if interval is None else list(interval)
