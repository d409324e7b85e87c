"""A share over several runs: its 95 % interval resamples runs, and clusters (patients) within each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrguard.audit.intervals import wider, wilson
from cxrguard.audit.resampling import Weights, cluster_ids, draw_clusters, percentiles, ratio


@dataclass(frozen=True)
class Hits:
    """Of one run, whether it happened under each prompt, and whose prompt that is.

    Attributes:
        happened: ``[N]`` booleans.
        clusters: the patient of each, ``N``.

    """

    happened: NDArray[np.bool_]
    clusters: Sequence[str]


def pooled_share(runs: Sequence[Hits], seed: int = 0, n: int = 2000) -> dict[str, Any]:
    """How often it happened over all prompts of all runs.

    The interval is the wider end, each side, of a bootstrap in two steps (runs with replacement where there are several, then patients
    within each drawn run) and of Wilson's: a bootstrap of 0 hits has no width.

    Args:
        runs: at least one prompt in all, or everything is None.
        seed: of the draws.
        n: their number.

    Returns:
        ``n``, ``hits``, ``rate``, ``ci``.

    """
    hits, total = sum(int(run.happened.sum()) for run in runs), sum(run.happened.size for run in runs)
    if not total:
        return {"n": 0, "hits": 0, "rate": None, "ci": None}
    usable = [run for run in runs if run.happened.size]
    return {"n": total, "hits": hits, "rate": hits / total, "ci": wider(_bootstrap(usable, seed, n), wilson(hits, total))}


def _bootstrap(runs: Sequence[Hits], seed: int, n: int) -> tuple[float, float] | None:
    generator = np.random.default_rng(seed)
    ids = [cluster_ids(run.clusters) for run in runs]

    def draw(size: int) -> Weights:
        times = generator.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=size)
        above, below = np.zeros(size), np.zeros(size)
        for run, of, drawn in zip(runs, ids, times.T, strict=True):
            weights = draw_clusters(of, drawn, generator)
            above, below = above + weights @ run.happened.astype(np.float64), below + weights.sum(axis=1)
        return ratio(above, below)

    return percentiles(draw, n)
