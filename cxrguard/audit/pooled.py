"""One detector over several runs that differ only in their seed: pooled figures, runs and patients resampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxrguard.audit.detectors import LOW_FPR, LOWER_FPR, Scored
from cxrguard.audit.intervals import newcombe_auc, wider, wilson
from cxrguard.audit.judge_detectors import CONTROLS
from cxrguard.audit.resampling import Weights, cluster_ids, draw_clusters, percentiles, ratio, weighted_wins
from cxrguard.audit.score_table import ScoreTable
from cxrguard.audit.statistics import Direction, oriented, threshold_at_fpr

MIN_RUNS = 2


@dataclass(frozen=True)
class Run:
    """One run's finite scores, higher meaning memorized: canaries that replay, controls that do not."""

    pos: Scored
    neg: Scored

    @classmethod
    def of(cls, table: ScoreTable, name: str, direction: Direction) -> Run:
        """A detector's positives and negatives, chosen as in the run's own audit."""
        groups, scores, asked = np.asarray(table.groups), table.scores[name], table.asked[name]

        def side(chosen: np.ndarray) -> Scored:
            found = Scored.of(scores[chosen & asked], [p for p, kept in zip(table.patients, chosen & asked, strict=True) if kept])
            return Scored(oriented(found.scores, direction), found.clusters, found.lost)

        return cls(side((groups == "canaries") & table.own), side(np.isin(groups, CONTROLS) & ~table.any))


def pool(tables: Sequence[ScoreTable], directions: dict[str, Direction], seed: int = 0, n: int = 2000) -> dict[str, Any]:
    """Every detector that all runs have, see :func:`pool_detector`; the direction of each is given."""
    shared = [name for name in directions if all(name in table.scores for table in tables)]
    return {name: pool_detector([Run.of(t, name, directions[name]) for t in tables], directions[name], seed, n) for name in shared}


def pool_detector(runs: Sequence[Run], direction: Direction, seed: int = 0, n: int = 2000) -> dict[str, Any]:
    """A detector's pooled figures.

    Scores of different models have no common scale, so a positive is only ever compared with controls of its own run:
    ``auc`` is the chance that a positive, drawn from all, lies beyond a control of its run (a run counts by its
    positives), and a TPR is the share of all positives that lie beyond their own run's threshold.

    An interval is the wider end, each side, of a bootstrap in two steps (runs with replacement, then patients within
    each drawn run) and of the interval from the numbers of patients alone; the TPR's thresholds stay as they are.

    Args:
        runs: of each run the positives and negatives.
        direction: of the detector, to be stated.
        seed: fixes the bootstrap.
        n: number of draws.

    Returns:
        ``auc, auc_ci, tpr_at_1pct_fpr, tpr_at_01pct_fpr`` and their intervals, ``direction, n_runs, n_positives,
        n_negatives, reason``. A run without a positive or a negative is left out and counted in ``reason``, which also
        explains what is null.

    """
    usable = [run for run in runs if run.pos.scores.size and run.neg.scores.size]
    reasons = []
    if len(usable) < len(runs):
        reasons.append(f"{len(runs) - len(usable)} of {len(runs)} runs have no positives or no controls that do not replay")
    if len(usable) < MIN_RUNS:
        reasons.append(f"two runs are needed; {len(usable)} can be used")
    figures = _auc(usable, seed, n)
    for name, rate in (("tpr_at_1pct_fpr", LOW_FPR), ("tpr_at_01pct_fpr", LOWER_FPR)):
        figures |= _tpr(usable, rate, name, seed, n)
        if len(usable) >= MIN_RUNS and figures[name] is None:
            reasons.append(f"TPR at {100 * rate:g} % FPR needs {round(1 / rate):,} controls that do not replay in each run")
    lost = sum(run.pos.lost + run.neg.lost for run in runs)
    if lost:
        reasons.append(f"{lost} scores were not finite and are left out")
    return figures | {
        "direction": direction,
        "n_runs": len(usable),
        "n_positives": sum(run.pos.scores.size for run in usable),
        "n_negatives": sum(run.neg.scores.size for run in usable),
        "reason": "; ".join(reasons) or None,
    }


def _auc(runs: Sequence[Run], seed: int, n: int) -> dict[str, Any]:
    if len(runs) < MIN_RUNS:
        return {"auc": None, "auc_ci": None}

    def figure(run: Run, pos: Weights, neg: Weights) -> tuple[Weights, Weights]:
        total = pos.sum(axis=1)
        return total * ratio(weighted_wins(run.pos.scores, run.neg.scores, pos, neg), total * neg.sum(axis=1)), total

    auc = _once(runs, figure)
    n_pos, n_neg = sum(len(set(run.pos.clusters)) for run in runs), sum(len(set(run.neg.clusters)) for run in runs)
    return {"auc": auc, "auc_ci": wider(_bootstrap(runs, figure, seed, n), newcombe_auc(auc, n_pos, n_neg))}


def _tpr(runs: Sequence[Run], rate: float, name: str, seed: int, n: int) -> dict[str, Any]:
    cuts = [cut for run in runs if (cut := threshold_at_fpr(run.neg.scores, rate)) is not None]
    if len(runs) < MIN_RUNS or len(cuts) < len(runs):
        return {name: None, f"{name}_ci": None}
    found = {id(run): run.pos.scores > cut for run, cut in zip(runs, cuts, strict=True)}

    def figure(run: Run, pos: Weights, neg: Weights) -> tuple[Weights, Weights]:
        return pos @ found[id(run)].astype(np.float64), pos.sum(axis=1)

    tpr, patients = _once(runs, figure), sum(len(set(run.pos.clusters)) for run in runs)
    return {name: tpr, f"{name}_ci": wider(_bootstrap(runs, figure, seed, n), wilson(round(tpr * patients), patients))}


Figure = Callable[[Run, Weights, Weights], tuple[Weights, Weights]]  # numerator and denominator of a run's part, [B] each


def _once(runs: Sequence[Run], figure: Figure) -> float:
    """The figure of the data as they are."""
    parts = [figure(run, np.ones((1, run.pos.scores.size)), np.ones((1, run.neg.scores.size))) for run in runs]
    return float(sum(above[0] for above, _ in parts) / sum(below[0] for _, below in parts))


def _bootstrap(runs: Sequence[Run], figure: Figure, seed: int, n: int) -> tuple[float, float] | None:
    generator = np.random.default_rng(seed)
    ids = [(cluster_ids(run.pos.clusters), cluster_ids(run.neg.clusters)) for run in runs]

    def draw(size: int) -> Weights:
        times = generator.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=size)
        above, below = np.zeros(size), np.zeros(size)
        for run, (pos, neg), drawn in zip(runs, ids, times.T, strict=True):
            part = figure(run, draw_clusters(pos, drawn, generator), draw_clusters(neg, drawn, generator))
            above, below = above + np.nan_to_num(part[0]), below + part[1]
        return ratio(above, below)

    return percentiles(draw, n)
