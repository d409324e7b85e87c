"""Put the figures of a finished run together to ``audit.json``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from cxrguard.audit.evaluate import SPACES, Evaluator, Generated, Scores
from cxrguard.audit.intervals import wilson
from cxrguard.audit.judge_detectors import CONTROLS, Detector, Outcomes, judge_detectors
from cxrguard.data.prepare import Study
from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.probes.batch import Probe, needs

HEADLINE = "pixels"
GROUPS = ("canaries", "controls", "members")


def generate_all(
    evaluator: Evaluator, denoiser: Denoiser, plan: dict[str, int], on_batch: Callable[[int], None] | None = None
) -> dict[str, Generated]:
    """Generate so many samples a prompt for every group of ``plan``."""
    return {name: evaluator.generate(denoiser, name, k, on_batch) for name, k in plan.items()}


def sampling_plan(evaluator: Evaluator, k: int, k_prompt_controls: int) -> dict[str, int]:
    """Samples a prompt by group; prompt-only controls are many, so they get fewer."""
    plan = dict.fromkeys(GROUPS, k)
    if k_prompt_controls and "prompt_controls" in evaluator.judged.groups:
        plan["prompt_controls"] = k_prompt_controls
    return plan


def score_all(
    evaluator: Evaluator, denoiser: Denoiser, probes: Sequence[Probe], groups: Sequence[str], on_probe: Callable[[str], None] | None = None
) -> dict[str, dict[str, Scores]]:
    """Scores by probe and group; what needs an image is not asked of prompts without one."""
    scores = {}
    for probe in probes:
        if on_probe:
            on_probe(probe.name)
        names = [n for n in groups if evaluator.judged.groups[n].has_images or not needs(probe, "images")]
        scores[probe.name] = {name: evaluator.score(denoiser, probe, name) for name in names}
    return scores


def judge(
    evaluator: Evaluator,
    generated: dict[str, Generated],
    scores: dict[str, dict[str, Scores]],
    detectors: Sequence[Detector],
    study: Study,
    k: int,
    seed: int,
) -> dict[str, Any]:
    """The sections ``extraction``, ``canaries``, ``controls``, ``members`` and ``detectors`` of the audit."""
    outcomes = outcomes_of(evaluator, generated, study)
    entries, members = judge_detectors(outcomes, scores, detectors, seed)
    positive, spilled = outcomes.own["canaries"], outcomes.any["controls"]
    return {
        "canaries": {
            "n": len(positive),
            "repeats": list(study.repeats),
            "share": study.share,
            "samples_per_prompt": k,
            "extraction_rate": float(positive.mean()),
            "extraction_ci": _interval(positive),
            "by_repeats": _by_repeats(positive, study.repeats),
            **({"by_arm": _by_arm(positive, study.arms["canaries"])} if study.arms else {}),
        },
        "controls": {
            "n": len(spilled),
            "n_judging": sum(int((~outcomes.any[name]).sum()) for name in CONTROLS if name in outcomes.any),
            "spillover_rate": float(spilled.mean()),
            "prompt_only": _prompt_only(generated, outcomes),
        },
        "members": {
            "n": len(outcomes.own["members"]),
            "extraction_rate": float(outcomes.own["members"].mean()),
            "patients": _patients(outcomes),
            "detectors": members,
        },
        "detectors": entries,
        "extraction": {
            "headline_space": HEADLINE,
            "k": sorted({1, k}),
            **evaluator.calibration,
            "groups": {name: _rates(generated[name], sorted({1, k}), evaluator.judged.groups["canaries"].own_index) for name in GROUPS},
        },
    }


def outcomes_of(evaluator: Evaluator, generated: dict[str, Generated], study: Study) -> Outcomes:
    """What came back under each prompt. All samples of a group count, in the headline space."""

    def hits(kind: str) -> dict[str, np.ndarray]:
        return {name: g.hits(HEADLINE, kind, g.draws).numpy() for name, g in generated.items()}

    subjects = {name: evaluator.judged.groups[name].subjects for name in generated}
    fewest = min(g.draws for g in generated.values())
    alike = {name: g.hits(HEADLINE, "any", fewest).numpy() for name, g in generated.items()}
    return Outcomes(hits("own"), hits("any"), alike, fewest, subjects, tuple(study.repeats))


def _prompt_only(generated: dict[str, Generated], outcomes: Outcomes) -> dict[str, Any]:
    """Controls without an image: how many, and how many replay in the fewer samples that they are given."""
    if "prompt_controls" not in generated:
        return {"n": 0, "n_judging": 0, "samples_per_prompt": 0, "spillover_rate": None, "spillover_ci": None}
    spilled = outcomes.any["prompt_controls"]
    return {
        "n": len(spilled),
        "n_judging": int((~spilled).sum()),
        "samples_per_prompt": generated["prompt_controls"].draws,
        "spillover_rate": float(spilled.mean()),
        "spillover_ci": _interval(spilled),
    }


def _patients(outcomes: Outcomes) -> dict[str, Any]:
    """Members by patient: a patient is extracted when one of their images is."""
    hit: dict[str, bool] = {}
    for subject, own in zip(outcomes.subjects["members"], outcomes.own["members"], strict=True):
        hit[subject] = hit.get(subject, False) or bool(own)
    values = np.array(list(hit.values()))
    return {"n": len(values), "extraction_rate": float(values.mean()), "extraction_ci": _interval(values)}


def _interval(hits: np.ndarray) -> list[float] | None:
    interval = wilson(int(hits.sum()), len(hits))
    return None if interval is None else list(interval)


def _by_repeats(hits: np.ndarray, repeats: Sequence[int]) -> list[dict[str, Any]]:
    times = np.array(repeats)
    return [{"repeats": int(r), "n": int((times == r).sum()), "extraction_rate": float(hits[times == r].mean())} for r in np.unique(times)]


def _by_arm(hits: np.ndarray, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Canaries by arm in a study of the marker itself; the arms come in their own order."""
    of = np.array(arms)
    groups = {arm: hits[of == arm] for arm in dict.fromkeys(arms)}
    return [
        {"arm": arm, "n": len(chosen), "extraction_rate": float(chosen.mean()), "extraction_ci": _interval(chosen)}
        for arm, chosen in groups.items()
    ]


def _rates(generated: Generated, ks: Sequence[int], canary_rows: Tensor) -> dict[str, Any]:
    out: dict[str, Any] = {"n": len(generated.pixels)}
    for space in SPACES:
        out[space] = {str(k): _rate(generated, space, k, canary_rows) for k in ks}
    return out


def _rate(generated: Generated, space: str, k: int, canary_rows: Tensor) -> dict[str, Any]:
    any_hits = generated.hits(space, "any", k).numpy()
    own_hits = generated.hits(space, "own", k).numpy()
    return {
        "own": float(own_hits.mean()),
        "own_ci": _interval(own_hits),
        "any": float(any_hits.mean()),
        "any_ci": _interval(any_hits),
        "any_on_canaries": generated.replays[space].landing_on(canary_rows, k * generated.per_draw),
    }
