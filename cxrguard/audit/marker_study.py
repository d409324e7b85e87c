"""The marker study: do canaries whose prompt keeps its marker get memorized more than the same canaries without it?

Each canary is in each arm once, over runs of the same seed that turn the arms round (``canaries.arm_shift``), so an arm is compared with
another within (seed, patient): same image, same report, same repeats, same other members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrguard.audit.exposure import exposure
from cxrguard.audit.intervals import wilson
from cxrguard.audit.judge_detectors import CONTROLS
from cxrguard.audit.paired import mean_difference, share_difference
from cxrguard.audit.record import directions_of
from cxrguard.audit.score_table import ScoreTable, read_scores
from cxrguard.audit.statistics import Direction
from cxrguard.data.prompt_form import ARMS
from cxrguard.errors import CxrguardError

Floats = NDArray[np.float64]
Unit = tuple[str, str]  # seed, patient
APART = ("seed", "canaries.arm_shift")  # what the runs of one study may differ in


@dataclass(frozen=True)
class StudyRun:
    """One run's canaries and controls, and the seed that chose them."""

    seed: str
    table: ScoreTable


@dataclass
class _Measured:
    """The canaries of all runs, an entry each.

    Attributes:
        units: seed and patient.
        arms: the arm of each.
        own: whether its own image came back.
        scores: by detector.
        bits: by detector, its exposure among the controls of its run *and arm*: a marker may change a score without any memory.

    """

    units: list[Unit] = field(default_factory=list, repr=False)
    arms: list[str] = field(default_factory=list)
    own: list[bool] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=dict)
    bits: dict[str, list[float]] = field(default_factory=dict)

    def by_unit(self, arm: str, values: Sequence[float]) -> dict[Unit, float]:
        """The mean of ``values`` of each unit in an arm; it is there once, but for a run with more shifts than arms."""
        grouped: dict[Unit, list[float]] = {}
        for unit, of, value in zip(self.units, self.arms, values, strict=True):
            if of == arm:
                grouped.setdefault(unit, []).append(float(value))
        return {unit: float(np.mean(found)) for unit, found in grouped.items()}


def marker_study(runs: Sequence[StudyRun], directions: dict[str, Direction], seed: int = 0, n: int = 2000) -> dict[str, Any]:
    """Arms, and their paired differences.

    Args:
        runs: with arms, alike in all but seed and shift.
        directions: of the detectors that all of them have.
        seed: of the bootstrap.
        n: its draws.

    Returns:
        ``by_arm``: a row an arm with ``n``, ``extraction_rate``, ``extraction_ci`` and by detector the mean ``score`` and ``exposure``
        (bits among the controls of the same run and arm) with ``exposure_ci``. ``differences``: a row for each two arms, ``first`` less
        ``second``, in ``extraction`` and in each detector's exposure, as :mod:`cxrguard.audit.paired` gives them: paired by (seed,
        patient), which is also what is resampled; ``by_seed`` has the extraction's by seed.

    """
    measured = _Measured(scores={name: [] for name in directions}, bits={name: [] for name in directions})
    for run in runs:
        _measure(run, directions, measured)
    there = [arm for arm in ARMS if arm in measured.arms]
    return {
        "by_arm": [_arm(measured, arm, seed, n) for arm in there],
        "differences": [_difference(measured, first, second, seed, n) for first, second in combinations(there, 2)],
    }


def _measure(run: StudyRun, directions: dict[str, Direction], into: _Measured) -> None:
    groups, arms = np.asarray(run.table.groups), np.asarray(run.table.arms)
    canaries = np.flatnonzero((groups == "canaries") & (arms != ""))
    into.units += [(run.seed, run.table.patients[i]) for i in canaries]
    into.arms += arms[canaries].tolist()
    into.own += run.table.own[canaries].tolist()
    for name, direction in directions.items():
        scores = run.table.scores[name] * (1 if direction == "higher" else -1)
        bits = np.full(len(groups), np.nan)
        for arm in np.unique(arms[canaries]):
            of_arm = (arms == arm) & np.isfinite(scores)
            reference = scores[of_arm & np.isin(groups, CONTROLS)]
            if reference.size:
                bits[of_arm] = exposure(scores[of_arm], reference)
        into.scores[name] += run.table.scores[name][canaries].tolist()
        into.bits[name] += bits[canaries].tolist()


def _arm(measured: _Measured, arm: str, seed: int, n: int) -> dict[str, Any]:
    hits = measured.by_unit(arm, measured.own)
    rate, units = float(np.mean(list(hits.values()))), len(hits)
    interval = wilson(round(rate * units), units)
    told: dict[str, Any] = {"arm": arm, "n": units, "extraction_rate": rate, "extraction_ci": None if interval is None else list(interval)}
    detectors = {}
    for name, bits in measured.bits.items():
        found = mean_difference(list(measured.by_unit(arm, bits).values()), seed=seed, n=n)
        scores = np.array(list(measured.by_unit(arm, measured.scores[name]).values()))
        score = float(scores[np.isfinite(scores)].mean()) if np.isfinite(scores).any() else None
        detectors[name] = {"score": score, "exposure": found["mean"], "exposure_ci": found["ci"], "reason": found["reason"]}
    return told | {"detectors": detectors}


def _difference(measured: _Measured, first: str, second: str, seed: int, n: int) -> dict[str, Any]:
    one, other, units = _paired(measured, first, second, measured.own)
    whole = bool(np.isin(np.concatenate([one, other]), (0.0, 1.0)).all())
    extraction = share_difference(one, other, seed=seed, n=n) if whole else mean_difference(one - other, seed=seed, n=n)
    if not units:
        extraction["reason"] = f"no canary was in both arms; run every shift: canaries.arm_shift={','.join(map(str, range(len(ARMS))))}"
    seeds = np.array([of for of, _ in units])
    detectors = {}
    for name, bits in measured.bits.items():
        a, b, _ = _paired(measured, first, second, bits)
        detectors[name] = mean_difference(a - b, seed=seed, n=n)
    return {
        "first": first,
        "second": second,
        "extraction": extraction,
        "by_seed": [
            {"seed": each, "n": int((seeds == each).sum()), "mean": float((one - other)[seeds == each].mean())}
            for each in dict.fromkeys(seeds.tolist())
        ],
        "detectors": detectors,
    }


def _paired(measured: _Measured, first: str, second: str, values: Sequence[float]) -> tuple[Floats, Floats, list[Unit]]:
    """The values of the units that are in both arms."""
    one, other = measured.by_unit(first, values), measured.by_unit(second, values)
    units = [unit for unit in one if unit in other]
    return np.array([one[unit] for unit in units]), np.array([other[unit] for unit in units]), units


def collect_marker_studies(arms: Sequence[dict[str, Any]], root: Path) -> list[dict[str, Any]]:
    """The marker studies among the runs of a sweep, one for each setting.

    Args:
        arms: of ``study.json``; those whose canaries have arms count.
        root: of the sweep.

    Returns:
        ``{"overrides", "seeds", "dirs", "reason"}`` with what :func:`marker_study` gives; only a ``reason`` where a table cannot be read.

    """
    alike: dict[tuple[str, ...], dict[tuple[str, ...], dict[str, Any]]] = {}
    for arm in arms:
        if arm["audit"] and arm["audit"]["canaries"].get("by_arm"):
            apart = [item for item in arm["overrides"] if item.partition("=")[0].lstrip("+") in APART]
            same = alike.setdefault(tuple(sorted(set(arm["overrides"]) - set(apart))), {})
            shift = sorted(item for item in apart if "arm_shift" in item)
            same.setdefault((str(arm["seed"]), *shift), arm)  # a seed and shift that were run twice count once
    return [_collect(overrides, list(found.values()), root) for overrides, found in alike.items()]


def _collect(overrides: tuple[str, ...], arms: list[dict[str, Any]], root: Path) -> dict[str, Any]:
    seeds = list(dict.fromkeys(arm["seed"] for arm in arms))
    entry = {"overrides": list(overrides), "seeds": seeds, "dirs": [arm["dir"] for arm in arms]}
    try:
        runs = [StudyRun(str(arm["seed"]), read_scores(root / arm["dir"])) for arm in arms]
    except CxrguardError as error:
        return entry | {"by_arm": [], "differences": [], "reason": str(error)}
    told = directions_of(arms[0]["audit"])
    found = marker_study(runs, {name: told[name] for name in told if all(name in run.table.scores for run in runs)})
    return entry | found | {"reason": None if found["by_arm"] else "no canary in these runs' scores.csv has an arm"}
