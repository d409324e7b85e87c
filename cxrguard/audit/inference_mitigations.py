"""What each mitigation at inference does to this run's canaries and controls, and what it costs: pure figures for ``audit.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cxrguard.audit.assemble import HEADLINE
from cxrguard.audit.detectors import Scored, area
from cxrguard.audit.evaluate import Evaluator
from cxrguard.audit.fidelity import FittedFidelity
from cxrguard.audit.intervals import wilson
from cxrguard.audit.mitigated import MitigatedGroup, MitigatedSamples
from cxrguard.audit.paired import share_difference
from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.errors import CxrguardError
from cxrguard.mitigating.catalogue import build, check_names
from cxrguard.mitigations.inference.base import InferenceMitigation
from cxrguard.mitigations.inference.vocabulary import TokenizerVocabulary
from cxrguard.probes.batch import Probe
from cxrguard.progress import progress_of

GROUPS = ("canaries", "controls")


@dataclass(frozen=True)
class InferencePlan:
    """What the audit compares; ``mitigation=inference`` asks for it.

    Attributes:
        names: see :mod:`cxrguard.mitigating.catalogue`; empty for all.
        samples: a prompt and wording.
        detectors: of the run, to score the mitigated inputs by.
        trusted: and those that are trusted in this run.

    Raises:
        CxrguardError: an unknown mitigation.

    """

    names: Sequence[str] = ()
    samples: int = 4
    detectors: Sequence[str] = ("text_noise_norm",)
    trusted: bool = True

    def __post_init__(self) -> None:
        check_names(tuple(self.names))

    def judge(
        self,
        evaluator: Evaluator,
        denoiser: Denoiser,
        probes: Sequence[Probe],
        fidelity: FittedFidelity | None = None,
        entries: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """:func:`judge_inference_mitigations` of them, with a progress line each; ``entries`` are the audit's ``detectors``."""
        names = check_names(tuple(self.names))
        trusted = {name for name, entry in (entries or {}).items() if self.trusted and entry["trusted"]}
        asked = [probe for probe in probes if probe.name in {*self.detectors, *trusted}]
        with progress_of("final audit: mitigations at inference", len(names)) as advance:
            mitigations = [build(name) for name in names]
            return judge_inference_mitigations(evaluator, denoiser, mitigations, self.samples, asked, lambda _: advance(1), fidelity)


_GUIDANCE_ONLY = "a guidance schedule changes no input of a detector, only the samples"


def judge_inference_mitigations(
    evaluator: Evaluator,
    denoiser: Denoiser,
    mitigations: Sequence[InferenceMitigation],
    k: int,
    probes: Sequence[Probe] = (),
    on_mitigation: Callable[[str], None] | None = None,
    fidelity: FittedFidelity | None = None,
) -> dict[str, Any]:
    """Generate and score canaries and controls under each mitigation, in every wording, with the noise of the audit's own samples.

    Args:
        evaluator: the judge; its sampler's steps and guidance are used.
        denoiser: the model that is judged.
        mitigations: see :mod:`cxrguard.mitigating.catalogue`; none at all is always added and comes first.
        k: samples a prompt and wording.
        probes: detectors to score the mitigated inputs by.
        on_mitigation: hears the name of each before its work begins.
        fidelity: of the run; None leaves it out.

    Returns:
        ``space``, ``samples_per_prompt``, ``wordings``, and by name ``mitigations``: ``acts_on``; for ``canaries`` and ``controls`` ``n``,
        ``withheld`` (prompts that no wording of is generated from), ``own_rate`` and ``any_rate`` (share of prompts whose own image, or any
        training image, came back in any wording) with Wilson's ``own_ci`` and ``any_ci``, ``own_difference`` and ``any_difference`` (to
        none, in pairs, clustered by patient), ``change`` (mean squared pixel distance of the samples from those without a mitigation),
        ``evals_per_prompt`` (UNet evaluations of k samples in one wording); by probe ``detectors``: ``canaries_mean``, ``controls_mean``,
        ``auc`` and ``auc_ci`` (all canaries against all controls), ``direction``; ``fidelity`` of the controls' samples, see
        :meth:`~cxrguard.audit.fidelity.FittedFidelity.measure`. What is null has its ``reason`` beside it.

    """
    vocabulary = TokenizerVocabulary(evaluator.parts.tokenizer)
    plain: dict[str, MitigatedSamples] = {}
    told: dict[str, Any] = {}
    for mitigation in [InferenceMitigation(), *(m for m in mitigations if m.name != InferenceMitigation.name)]:
        if on_mitigation:
            on_mitigation(mitigation.name)
        groups = {name: MitigatedGroup(evaluator, mitigation, name, vocabulary) for name in GROUPS}
        samples = {name: group.generate(denoiser, k) for name, group in groups.items()}
        plain = plain or samples
        told[mitigation.name] = {
            "acts_on": list(mitigation.acts_on),
            **{name: _outcome(samples[name], plain[name], evaluator.judged.groups[name].subjects, evaluator.seed) for name in GROUPS},
            "detectors": {probe.name: _detector(evaluator, denoiser, mitigation, groups, probe) for probe in probes},
            **_fidelity(samples["controls"], fidelity),
        }
    wordings = max(len(evaluator.judged.groups[name].variants) for name in GROUPS)
    return {"space": HEADLINE, "samples_per_prompt": k, "wordings": wordings, "mitigations": told}


def _fidelity(made: MitigatedSamples, fidelity: FittedFidelity | None) -> dict[str, Any]:
    """Of the prompts whose wording that was trained on is not withheld."""
    if fidelity is None:
        return {}
    return {"fidelity": fidelity.measure(made.generated.pixels, made.generated.per_draw, ~made.withheld[:, -1])}


def _outcome(made: MitigatedSamples, plain: MitigatedSamples, subjects: Sequence[str], seed: int) -> dict[str, Any]:
    """One group's figures."""
    figures: dict[str, Any] = {"n": len(subjects), "withheld": int(made.withheld.all(axis=1).sum())}
    for outcome in ("own", "any"):
        hits, before = (each.generated.hits(HEADLINE, outcome, each.generated.draws).numpy() for each in (made, plain))
        interval = wilson(int(hits.sum()), len(hits))
        figures |= {
            f"{outcome}_rate": float(hits.mean()) if len(hits) else None,
            f"{outcome}_ci": None if interval is None else list(interval),
            f"{outcome}_difference": share_difference(hits, before, subjects, seed),
        }
    change = _change(made, plain)
    figures |= {"change": change, "evals_per_prompt": made.evaluations}
    reasons = ["the group is empty"] if not subjects else ["every prompt was withheld"] if change is None else []
    return figures | {"reason": "; ".join(reasons) or None}


def _change(made: MitigatedSamples, plain: MitigatedSamples) -> float | None:
    """Over what was generated: the mean squared pixel distance to the sample of the same prompt, wording and draw."""
    generated = made.generated
    kept = torch.from_numpy(~made.withheld)[:, None].expand(-1, generated.draws, -1).flatten(1)
    distance = (generated.pixels - plain.generated.pixels).square().flatten(2).mean(dim=2)[kept]
    return float(distance.double().mean()) if distance.numel() else None


def _detector(
    evaluator: Evaluator, denoiser: Denoiser, mitigation: InferenceMitigation, groups: dict[str, MitigatedGroup], probe: Probe
) -> dict[str, Any]:
    """One detector's figures under a mitigation."""
    direction: Any = probe.direction
    figures: dict[str, Any] = {"canaries_mean": None, "controls_mean": None, "auc": None, "auc_ci": None, "direction": direction}
    if mitigation.acts_on and not mitigation.moves_score:
        return figures | {"reason": _GUIDANCE_ONLY}
    try:
        scores = {name: groups[name].score(denoiser, probe) for name in GROUPS}
    except CxrguardError as error:
        return figures | {"reason": str(error)}
    known = {name: Scored.of(scores[name], evaluator.judged.groups[name].subjects) for name in GROUPS}
    auc, interval = area(known["canaries"], known["controls"], direction, evaluator.seed, 1000)
    means = {f"{name}_mean": float(each.scores.mean()) if each.scores.size else None for name, each in known.items()}
    return figures | means | {"auc": auc, "auc_ci": interval, "reason": _reason(known, interval)}


def _reason(known: dict[str, Scored], interval: list[float] | None) -> str | None:
    """Why a figure is null or rests on fewer prompts."""
    reasons = [f"{each.lost} {name} have no score (withheld, or not finite)" for name, each in known.items() if each.lost]
    if interval is None:
        reasons.append("no interval: fewer than two patients on a side")
    return "; ".join(reasons) or None
