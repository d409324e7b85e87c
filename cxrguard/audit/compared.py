"""Settings of a sweep side by side over their seeds: what came back, what was learned, what it took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxrguard.audit.record import Audit, lookup
from cxrguard.audit.score_table import ScoreTable, read_scores
from cxrguard.audit.shares import Hits, pooled_share
from cxrguard.errors import CxrguardError

Arm = dict[str, Any]
JUDGED = ("canaries", "members", "controls", "prompt_controls")
GUARDS = ("guard", "sanitizer")  # what an arm may differ in from the unguarded one that it is held against
INCIDENTAL = ("seed", "hydra", "cache", "logger", "ckpt_path")  # says nothing of what is compared
NO_REFERENCE = "no run of the same other settings and seed has guard=off"
FIDELITY = {"labels.auc": ("label AUC", "higher"), "distance.kid": ("kernel distance", "lower")}
"""Figures of ``fidelity`` that are compared: a dotted path in it, its name, and which way is better."""


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _settings(arm: Arm, but: Sequence[str]) -> frozenset[str]:
    """The overrides but for those of the groups ``but``."""
    return frozenset(item for item in arm["overrides"] if _key(item).partition(".")[0].partition("/")[0] not in but)


def guard_of(arm: Arm) -> str | None:
    """The guard that a run had, as its audit says; as its overrides say where the audit is older."""
    told = lookup(arm["audit"], "run.guard")
    given = next((item.partition("=")[2] for item in arm["overrides"] if _key(item) == "guard"), None)
    return told if isinstance(told, str) else given


def compare(arms: Sequence[Arm], root: Path) -> list[dict[str, Any]]:
    """The settings of a sweep, each over its seeds, in the order of their first run.

    Args:
        arms: of ``study.json``; those with an audit count, a seed that was run twice once.
        root: of the sweep.

    Returns:
        None at all with fewer than two settings. Of each: ``label`` (what it does not share with the others), ``overrides``, ``guard``,
        ``seeds``, ``dirs``; ``extraction`` (canaries: ``n, hits, rate, ci``), ``by_repeats`` (the same by repeats), ``replays``
        (by group, own and any training image, in all samples of a prompt); ``heldout_loss``, ``learning_kept``, ``seconds``,
        ``time_ratio``, ``train_time_ratio``, and ``fidelity`` by name (each ``mean, by_seed, reason``, see :func:`over_seeds`).
        ``learning_kept`` is (L_base − L) / (L_base − min L_off), L the held-out denoising loss, its minimum over the steps of the
        unguarded run of the same seed: 1 is as good as that one ever was, 0 has learned nothing. ``time_ratio`` is the whole run's
        seconds over those of the unguarded run, ``train_time_ratio`` that of the training with its guard, without probes and audit:
        where prompts are sanitized the audit tries two wordings of each.

    """
    groups: dict[frozenset[str], dict[str, Arm]] = {}
    for arm in arms:
        if arm["audit"]:
            groups.setdefault(_settings(arm, INCIDENTAL), {}).setdefault(str(arm["seed"]), arm)
    if len(groups) < 2:
        return []
    shared = frozenset.intersection(*groups)
    return [_compared(settings, found, shared, groups, root) for settings, found in groups.items()]


def _compared(
    settings: frozenset[str], found: dict[str, Arm], shared: frozenset[str], groups: dict[frozenset[str], dict[str, Arm]], root: Path
) -> dict[str, Any]:
    arms = list(found.values())
    off = _reference(arms[0], groups)
    told = {
        "label": " ".join(item for item in arms[0]["overrides"] if item in settings - shared) or "as configured",
        "overrides": sorted(settings),
        "guard": guard_of(arms[0]),
        "seeds": [arm["seed"] for arm in arms],
        "dirs": [arm["dir"] for arm in arms],
    }
    return told | _came_back(arms, root) | _learned(found, off) | {"fidelity": _fidelity(arms)}


def _reference(arm: Arm, groups: dict[frozenset[str], dict[str, Arm]]) -> dict[str, Arm]:
    """The unguarded runs, by seed, of the same other settings; of several settings the one with the fewest overrides."""
    rest = _settings(arm, INCIDENTAL + GUARDS)
    alike = [
        (settings, found)
        for settings, found in groups.items()
        if (first := next(iter(found.values()))) and guard_of(first) == "off" and _settings(first, INCIDENTAL + GUARDS) == rest
    ]
    return min(alike, key=lambda item: len(item[0]))[1] if alike else {}


def _came_back(arms: Sequence[Arm], root: Path) -> dict[str, Any]:
    """Extraction and replays over all prompts of all seeds."""
    try:
        tables = [read_scores(root / arm["dir"]) for arm in arms]
    except CxrguardError as error:
        empty = {"n": 0, "hits": 0, "rate": None, "ci": None, "reason": str(error)}
        return {"extraction": empty, "by_repeats": [], "replays": {}}
    levels = sorted({int(r) for t in tables for r in t.repeats[np.asarray(t.groups) == "canaries"]})
    replays = {}
    for group in JUDGED:
        if any(group in table.groups for table in tables):
            replays[group] = {kind: pooled_share([_hits(t, group, kind) for t in tables]) for kind in ("own", "any")}
    return {
        "extraction": pooled_share([_hits(t, "canaries", "own") for t in tables]) | {"reason": None},
        "by_repeats": [{"repeats": r, **pooled_share([_hits(t, "canaries", "own", r) for t in tables])} for r in levels],
        "replays": replays,
    }


def _hits(table: ScoreTable, group: str, kind: str, repeats: int | None = None) -> Hits:
    chosen = np.asarray(table.groups) == group
    if repeats is not None:
        chosen = chosen & (table.repeats == repeats)
    return Hits(getattr(table, kind)[chosen], [p for p, kept in zip(table.patients, chosen, strict=True) if kept])


def _learned(found: dict[str, Arm], off: dict[str, Arm]) -> dict[str, Any]:
    pairs = {seed: (arm["audit"], off[seed]["audit"]) for seed, arm in found.items() if seed in off}
    missing = None if len(pairs) == len(found) else NO_REFERENCE
    return {
        "heldout_loss": over_seeds([arm["audit"]["fidelity"]["heldout_loss"] for arm in found.values()]),
        "learning_kept": over_seeds([learning_kept(audit, of) for audit, of in pairs.values()], missing),
        "seconds": over_seeds([arm["audit"]["seconds"]["total"] for arm in found.values()]),
        **{
            name: over_seeds([_ratio(audit["seconds"][part], of["seconds"][part]) for audit, of in pairs.values()], missing)
            for name, part in (("time_ratio", "total"), ("train_time_ratio", "train"))
        },
    }


def learning_kept(audit: Audit, off: Audit) -> float | None:
    """(L_base − L) / (L_base − min L_off); None where the unguarded run has learned nothing.

    L_base is each run's own: the sanitizer changes the held-out prompts too.
    """
    ends = [(of["fidelity"]["heldout_loss_base"], of["fidelity"]["heldout_loss"]) for of in (audit, off)]
    if any(loss is None for pair in ends for loss in pair):
        return None
    (base, end), (base_off, end_off) = ends
    could = base_off - min([end_off, *_curve(off)])
    return float((base - end) / could) if could > 0 else None


def _ratio(value: float | None, of: float | None) -> float | None:
    return value / of if value is not None and of else None


def _curve(audit: Audit) -> list[float]:
    """The losses of the rounds that looked at all held-out images: those of some are of another sample."""
    curve = [row for row in audit["fidelity"]["heldout_loss_curve"] if isinstance(row, dict) and row.get("heldout_loss") is not None]
    every = lookup(audit, "run.data.heldout") or 0
    return [float(row["heldout_loss"]) for row in curve if (row.get("images") or 0) >= every]


def over_seeds(values: Sequence[float | None], reason: str | None = None) -> dict[str, Any]:
    """``mean`` over the seeds and ``by_seed``; no interval: three seeds give none worth the name, so all of them are shown."""
    known = [value for value in values if value is not None]
    if not known:
        return {"mean": None, "by_seed": [], "reason": reason or "this figure could not be had in any run"}
    lost = f"{len(values) - len(known)} of {len(values)} runs do not have this figure" if len(known) < len(values) else None
    return {"mean": float(np.mean(known)), "by_seed": known, "reason": reason or lost}


def _fidelity(arms: Sequence[Arm]) -> dict[str, Any]:
    return {
        name: over_seeds([lookup(arm["audit"]["fidelity"], path) for arm in arms]) | {"better": better}
        for path, (name, better) in FIDELITY.items()
    }
