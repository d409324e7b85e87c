"""Put the figures of a finished run together to ``audit.json``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from cxrguard.audit.evaluate import SPACES, Evaluator, Generated, Scores
from cxrguard.audit.intervals import wilson
from cxrguard.audit.record import build_detector_entry
from cxrguard.data.prepare import Study
from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.probes.batch import Probe

HEADLINE = "pixels"
GROUPS = ("canaries", "controls", "members")


def generate_all(evaluator: Evaluator, denoiser: Denoiser, k: int, on_batch: Callable[[int], None] | None = None) -> dict[str, Generated]:
    """Generate ``k`` samples a prompt for every group."""
    return {name: evaluator.generate(denoiser, name, k, on_batch) for name in GROUPS}


def score_all(evaluator: Evaluator, denoiser: Denoiser, probes: Sequence[Probe]) -> dict[str, dict[str, Scores]]:
    """Scores by probe and group."""
    return {p.name: {name: evaluator.score(denoiser, p, name) for name in GROUPS} for p in probes}


def judge(
    evaluator: Evaluator,
    generated: dict[str, Generated],
    scores: dict[str, dict[str, Scores]],
    probes: Sequence[Probe],
    study: Study,
    k: int,
    seed: int,
) -> dict[str, Any]:
    """The sections ``extraction``, ``canaries``, ``controls``, ``members`` and ``detectors`` of the audit."""
    positive = generated["canaries"].hits(HEADLINE, "own", k).numpy()
    spilled = generated["controls"].hits(HEADLINE, "any", k).numpy()
    subjects = {name: np.array(group.subjects) for name, group in evaluator.judged.groups.items()}

    def entry(probe: Probe, name: str, chosen: np.ndarray) -> dict[str, Any]:
        return build_detector_entry(
            scores[probe.name][name][chosen],
            scores[probe.name]["controls"][~spilled],
            probe.direction,  # type: ignore[arg-type]
            probe.evals_per_prompt,
            pos_clusters=list(subjects[name][chosen]),
            neg_clusters=list(subjects["controls"][~spilled]),
            seed=seed,
        )

    everyone = np.ones(len(subjects["members"]), dtype=bool)
    rate = float(positive.mean())
    return {
        "canaries": {
            "n": len(positive),
            "repeats": list(study.repeats),
            "share": study.share,
            "samples_per_prompt": k,
            "extraction_rate": rate,
            "extraction_ci": _interval(positive),
            "by_repeats": _by_repeats(positive, study.repeats),
        },
        "controls": {"n": len(spilled), "n_judging": int((~spilled).sum()), "spillover_rate": float(spilled.mean())},
        "members": {
            "n": len(everyone),
            "extraction_rate": generated["members"].rate(HEADLINE, "own", k),
            "detectors": {p.name: entry(p, "members", everyone) for p in probes},
        },
        "detectors": {p.name: entry(p, "canaries", positive) for p in probes},
        "extraction": {
            "headline_space": HEADLINE,
            "k": sorted({1, k}),
            **evaluator.calibration,
            "groups": {name: _rates(g, sorted({1, k}), evaluator.judged.groups["canaries"].own_index) for name, g in generated.items()},
        },
    }


def _interval(hits: np.ndarray) -> list[float] | None:
    interval = wilson(int(hits.sum()), len(hits))
    return None if interval is None else list(interval)


def _by_repeats(hits: np.ndarray, repeats: Sequence[int]) -> list[dict[str, Any]]:
    times = np.array(repeats)
    return [{"repeats": int(r), "n": int((times == r).sum()), "extraction_rate": float(hits[times == r].mean())} for r in np.unique(times)]


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
