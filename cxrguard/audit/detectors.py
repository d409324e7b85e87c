"""One detector's entry in the audit: is its score borne out by this run's own canaries and controls?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrguard.audit.exposure import mean_exposure
from cxrguard.audit.intervals import auc_interval, wilson
from cxrguard.audit.statistics import Direction, oriented, roc_auc, threshold_at_fpr, tpr_at_fpr

LOW_FPR, LOWER_FPR = 0.01, 0.001
CHANCE = 0.5
MIN_POSITIVES = 5  # with fewer the interval of even a perfect separation reaches below TRUST, whatever the controls' number
TRUST = 0.8  # the lower end of the AUC interval that makes a detector trusted
Floats = NDArray[np.float64]
Names = Sequence[object]


@dataclass(frozen=True)
class Scored:
    """Finite scores of some prompts and the patient of each.

    Attributes:
        scores: ``[N]``.
        clusters: whom to resample together; ``N`` hashable values.
        lost: scores that were not finite and were left out.

    """

    scores: Floats
    clusters: tuple[object, ...]
    lost: int = 0

    @classmethod
    def of(cls, scores: ArrayLike, clusters: Names | None = None) -> Scored:
        """Leave out what is not finite; without ``clusters`` each score is its own."""
        values = np.asarray(scores, dtype=np.float64).reshape(-1)
        names = list(range(values.size)) if clusters is None else list(clusters)
        if len(names) != values.size:
            raise ValueError(f"clusters: expected one a score ({values.size}), received {len(names)}")
        keep = np.isfinite(values)
        return cls(values[keep], tuple(name for name, kept in zip(names, keep, strict=True) if kept), int((~keep).sum()))


def describe(
    pos: Scored, neg: Scored, direction: Direction, evals_per_prompt: int, seed: int = 0, n_bootstrap: int = 2000
) -> dict[str, Any]:
    """One detector's figures: its entry in ``detectors``.

    Args:
        pos: canaries that replay.
        neg: controls that do not.
        direction: Which way a score means memorized.
        evals_per_prompt: Denoiser evaluations the score costs.
        seed: Fixes the bootstrap.
        n_bootstrap: Draws of the bootstrap.

    Returns:
        The keys of DESIGN section 5, ``tpr_at_01pct_fpr``, intervals, ``n_positives`` and ``n_negatives``. ``trusted``
        holds when the AUC's interval lies at or above 0.8, which takes 5 positives at least. What is null is explained in
        ``reason``. Scores that are not finite are left out and counted there.

    """
    auc, interval = area(pos, neg, direction, seed, n_bootstrap)
    trusted, reasons = judge_trust(auc, interval, pos.scores.size, neg.scores.size)
    figures: dict[str, Any] = {"auc": auc, "auc_ci": interval}
    for name, rate in (("tpr_at_1pct_fpr", LOW_FPR), ("tpr_at_01pct_fpr", LOWER_FPR)):
        figures |= _tpr(pos, neg, direction, name, rate)
        if neg.scores.size * rate < 1 - 1e-9:
            what = "TPR and threshold at 1 % FPR need" if rate == LOW_FPR else "TPR at 0.1 % FPR needs"
            reasons.append(f"{what} {round(1 / rate):,} controls that do not replay; there are {neg.scores.size}")
    if pos.lost or neg.lost:
        reasons.append(f"{pos.lost + neg.lost} scores were not finite and are left out")
    return figures | {
        "threshold": threshold_at_fpr(neg.scores, LOW_FPR, direction),
        "direction": direction,
        "evals_per_prompt": evals_per_prompt,
        "trusted": trusted,
        "reason": "; ".join(reasons) or None,
        "n_positives": int(pos.scores.size),
        "n_negatives": int(neg.scores.size),
    }


def area(pos: Scored, neg: Scored, direction: Direction, seed: int, n_bootstrap: int = 2000) -> tuple[float | None, list[float] | None]:
    """The ROC area and its interval, resampled by patient."""
    auc = roc_auc(pos.scores, neg.scores, direction)
    interval = auc_interval(pos.scores, neg.scores, pos.clusters, neg.clusters, direction, seed, n_bootstrap)
    return auc, interval


def _tpr(pos: Scored, neg: Scored, direction: Direction, name: str, rate: float) -> dict[str, Any]:
    """A TPR and Wilson's interval at this threshold, over patients."""
    tpr = tpr_at_fpr(pos.scores, neg.scores, rate, direction)
    interval = None
    if tpr is not None:
        patients = len(set(pos.clusters))
        interval = wilson(round(tpr * patients), patients)
    return {name: tpr, f"{name}_ci": None if interval is None else list(interval)}


def judge_trust(auc: float | None, interval: Sequence[float] | None, n_pos: int, n_neg: int) -> tuple[bool, list[str]]:
    """Whether a detector's figures may be acted on in this run, and what speaks against."""
    if auc is None:
        return False, [f"no AUC: {n_pos} positives (canaries that replay), {n_neg} controls that do not replay"]
    if interval is None:
        return False, ["no interval: fewer than two patients on a side"]
    if n_pos < MIN_POSITIVES:
        return False, [f"{n_pos} positives are too few to trust an AUC; {MIN_POSITIVES} are needed"]
    if interval[1] < CHANCE:
        return False, [f"points the wrong way in this run: AUC {auc:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"]
    if interval[0] < TRUST:
        weak = "not told from chance" if interval[0] <= CHANCE else f"interval reaches below {TRUST}"
        return False, [f"{weak}: AUC {auc:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"]
    return True, []


def by_repeats(
    scores: Floats,
    replayed: NDArray[np.bool_],
    repeats: Sequence[int],
    clusters: Names,
    quiet: Scored,
    controls: Floats,
    direction: Direction,
    seed: int,
) -> dict[str, Any]:
    """How a detector does on canaries of each repeat level, and the lowest level at which it is trusted.

    Args:
        scores: of all canaries, ``[N]``.
        replayed: which of them replay, ``[N]``; the AUC's positives.
        repeats: showings an epoch, ``[N]``.
        clusters: their patients.
        quiet: controls that do not replay; the AUC's negatives.
        controls: scores of all controls, the exposure's reference.
        direction: Which way memorized scores lie.
        seed: Fixes the bootstrap.

    Returns:
        ``by_repeats``: a row a level with the AUC of its replaying canaries, and the mean exposure of *all* its canaries
        among *all* controls; ``lowest_repeats``: the lowest trusted level, or None.

    """
    times, names = np.asarray(repeats), np.asarray(clusters, dtype=object)
    rows: list[dict[str, Any]] = []
    for level in np.unique(times):
        at = times == level
        pos, every = (Scored.of(scores[chosen], list(names[chosen])) for chosen in (at & replayed, at))
        auc, interval = area(pos, quiet, direction, seed, 1000)
        trusted, reasons = judge_trust(auc, interval, pos.scores.size, quiet.scores.size)
        figures = {"repeats": int(level), "n": int(at.sum()), "n_positives": int(pos.scores.size), "auc": auc, "auc_ci": interval}
        figures |= _exposure(every, controls, direction, seed)
        rows.append(figures | {"trusted": trusted, "reason": "; ".join(reasons) or None})
    trusted_levels = [row["repeats"] for row in rows if row["trusted"]]
    return {"by_repeats": rows, "lowest_repeats": min(trusted_levels) if trusted_levels else None}


def _exposure(canaries: Scored, controls: Floats, direction: Direction, seed: int) -> dict[str, Any]:
    reference = oriented(controls[np.isfinite(controls)], direction)
    found = mean_exposure(oriented(canaries.scores, direction), reference, canaries.clusters, seed)
    mean, interval = found or (None, None)
    return {"exposure": mean, "exposure_ci": interval}


def outcome(
    groups: Sequence[tuple[Floats, NDArray[np.bool_], Names]], direction: Direction, seed: int, samples_per_prompt: int
) -> dict[str, Any]:
    """The second ROC: over *all* prompts, does the score say which ones replay anyone's image?

    Args:
        groups: (scores, whether the prompt replays any training image, patients) of each group of prompts.
        direction: Which way memorized scores lie.
        seed: Fixes the bootstrap.
        samples_per_prompt: in which a replay was looked for, the same number under every prompt: a group that had more
            samples would replay more often for that alone.

    """
    sides = ([(s[hits == side], np.asarray(names, dtype=object)[hits == side]) for s, hits, names in groups] for side in (True, False))
    pos, neg = (
        Scored.of(np.concatenate([s for s, _ in side]), [name for _, names in side for name in names.tolist()]) for side in map(list, sides)
    )
    auc, interval = area(pos, neg, direction, seed, 1000)
    n_pos, n_neg = int(pos.scores.size), int(neg.scores.size)
    return {
        "auc": auc,
        "auc_ci": interval,
        "samples_per_prompt": samples_per_prompt,
        "n_positives": n_pos,
        "n_negatives": n_neg,
        "reason": None if interval is not None else f"of too few patients: {n_pos} prompts replay a training image, {n_neg} do not",
    }
