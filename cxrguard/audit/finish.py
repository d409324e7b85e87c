"""The end of a run: generate, score, judge, and write everything that the run leaves on disk."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cxrguard import __version__
from cxrguard.audit.assemble import GROUPS, generate_all, judge, outcomes_of, sampling_plan, score_all
from cxrguard.audit.combination import combinations_of
from cxrguard.audit.evaluate import Evaluator
from cxrguard.audit.evidence import save_grid, write_prompts, write_strips
from cxrguard.audit.explain import ReportSettings, explain
from cxrguard.audit.fidelity import Fidelity
from cxrguard.audit.inference_mitigations import InferencePlan
from cxrguard.audit.judge_detectors import Detector
from cxrguard.audit.model_card import write_model_card
from cxrguard.audit.onset import forecast_of
from cxrguard.audit.record import PROMPTS, SCHEMA, validate_audit, verdict
from cxrguard.audit.replication import Replication
from cxrguard.audit.report import write_report
from cxrguard.audit.score_table import write_scores
from cxrguard.data.prepare import Study
from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.files import write_json_private
from cxrguard.probes.batch import Probe
from cxrguard.progress import progress_of
from cxrguard.pseudonym import load_key

PACKAGES = ("torch", "pytorch-lightning", "diffusers", "transformers", "hydra-core", "wandb", "spacy", "numpy")


@dataclass(frozen=True)
class RunFacts:
    """What the training knows and the audit states.

    Attributes:
        config: the resolved configuration, plain types.
        reader: class of the data set's reader.
        device: what it ran on.
        n_parameters: of the trained UNet.
        weights: ``ema`` or ``raw``, the weights that are judged and exported.
        steps: optimizer steps done.
        start: ``time.perf_counter()`` at the start of the run.
        seconds_train: in the fit, without the probes.
        seconds_probes: in scheduled probes.
        heldout_loss_base: before the first step.
        heldout_loss: after the last.
        curves: one row a scheduled probe.
        n_residual: markers in the prompts that were trained on.
        actions: what the guard did, in order.
        privacy: ε and what it rests on, see :meth:`cxrguard.diffusion.private.PrivateTraining.summary`; None without.

    """

    config: dict[str, Any]
    reader: str
    device: str
    n_parameters: int
    weights: str
    steps: int
    start: float
    seconds_train: float
    seconds_probes: float
    heldout_loss_base: float
    heldout_loss: float
    curves: list[dict[str, Any]]
    n_residual: int
    actions: list[dict[str, Any]] = field(default_factory=list)
    privacy: dict[str, Any] | None = None


def finish_run(
    run_dir: Path,
    evaluator: Evaluator,
    denoiser: Denoiser,
    probes: Sequence[Probe],
    study: Study,
    facts: RunFacts,
    replication: Replication | None = None,
    inference: InferencePlan | None = None,
    fidelity: Fidelity | None = None,
) -> dict[str, Any]:
    """Judge the weights in ``denoiser`` and write ``audit.json``, ``report.html``, ``MODEL_CARD.md``, ``scores.csv``, pictures.

    Returns:
        The audit.

    """
    start = time.perf_counter()
    k, seed = int(facts.config["sampling"]["samples_per_prompt"]), int(facts.config["seed"])
    plan = sampling_plan(evaluator, k, int(facts.config["sampling"]["samples_per_prompt_control"]))
    with progress_of("final audit: generating", evaluator.n_samples(plan)) as advance:
        generated = generate_all(evaluator, denoiser, plan, advance)
    with progress_of("final audit: scoring", len(probes)) as advance:
        scores = score_all(evaluator, denoiser, probes, list(plan), lambda _: advance(1))
    detectors: list[Detector] = list(probes)
    if replication is not None:
        with progress_of("final audit: replication", evaluator.n_samples(dict.fromkeys(plan, replication.samples))) as advance:
            scores |= replication.score(evaluator, denoiser, list(plan), advance)
        detectors += replication.detectors(evaluator)
    combinations = combinations_of(facts.config.get("combinations"), probes)
    scores |= {each.name: each.score(scores, {name: evaluator.judged.groups[name].subjects for name in plan}) for each in combinations}
    judged = judge(evaluator, generated, scores, [*detectors, *combinations], study, k, seed)
    for each in combinations:
        judged["detectors"][each.name]["of"] = list(each.of)
    settings = ReportSettings.of(facts.config)
    judged |= explain(evaluator, denoiser, settings)
    shows = fidelity.fit(evaluator, study) if fidelity else None
    judged["inference_mitigations"] = inference.judge(evaluator, denoiser, probes, shows, judged["detectors"]) if inference else None
    write_scores(run_dir, evaluator.judged.groups, outcomes_of(evaluator, generated, study), scores, load_key(), study.arms)
    shown = {name: generated[name] for name in GROUPS}
    for name, result in shown.items():
        save_grid(result.pixels[:32, 0], run_dir / "samples" / f"final_{name}.png")
    strips = write_strips(evaluator, shown, run_dir, load_key()) if settings.show_images else []
    (run_dir / PROMPTS).unlink(missing_ok=True)  # of an earlier audit that was asked for them
    if settings.show_prompts:
        write_prompts(run_dir, strips, study, load_key(), seed)
    audit = _header(facts, study, time.perf_counter() - start, run_dir) | judged | _rest(facts, study, strips)
    controls = generated["controls"]
    audit["fidelity"] |= shows.measure(controls.pixels, controls.per_draw) if shows else {"labels": None, "distance": None}
    audit["verdict"] = verdict(audit)
    audit["seconds"]["total"] = time.perf_counter() - facts.start
    validate_audit(audit)
    write_json_private(run_dir / "audit.json", audit)
    write_report(run_dir)
    write_model_card(run_dir)
    return audit


def without_paths(value: Any) -> Any:
    """A configuration whose paths read ``<path>``: names of directories and tables may name people."""
    if isinstance(value, dict):
        return {name: without_paths(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    if not isinstance(value, str):
        return value
    starts = ("/", ".", "~", "{", "[")  # lists and mappings of an override may hold paths
    name, equals, text = value.partition("=")
    if not equals or value.startswith(starts):
        name, equals, text = "", "", value
    directory = text.partition("::")[0]  # of an assembled model's part
    return f"{name}{equals}<path>" if "/" in text and (Path(directory).exists() or text.startswith(starts)) else value


def model_name(source: Any) -> str:
    """A model's source in one line, without paths: a pipeline's, or those of an assembled model's parts."""
    shown = without_paths(source)
    if not isinstance(shown, dict):
        return str(shown)
    return ", ".join(f"{part} {shown[part]}" for part in ("unet", "vae", "text_encoder", "tokenizer") if isinstance(shown.get(part), str))


def config_hash(config: dict[str, Any], run_dir: Path) -> str:
    """Names a configuration: the same wherever the run lies, and however its overrides were spelled."""
    values = {name: value for name, value in config.items() if name not in ("overrides", "cache")}
    text = json.dumps(values, sort_keys=True, default=str).replace(json.dumps(str(run_dir))[1:-1], "<run>")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _header(facts: RunFacts, study: Study, seconds_final: float, run_dir: Path) -> dict[str, Any]:
    shown = without_paths(facts.config)
    return {
        "schema": SCHEMA,
        "run": {
            "name": f"cxrguard {facts.reader}",
            "command": "python train.py " + " ".join(shown.get("overrides", [])),
            "device": facts.device,
            "data": {
                "reader": facts.reader,
                "members": len(study.members),
                "patients": len({p.record.subject_id for p in study.members}),
                "heldout": len(study.heldout),
                "quarantined": study.n_quarantined,
                "duplicates": study.duplicates,
            },
            "guard": facts.config["guard"]["name"],
            "model": model_name(facts.config["model"]["source"]),
            "n_parameters": facts.n_parameters,
        },
        "config_hash": config_hash(facts.config, run_dir),
        "versions": _versions(),
        "seed": facts.config["seed"],
        "steps": facts.steps,
        "seconds": {
            "train": facts.seconds_train,
            "probes": facts.seconds_probes + seconds_final,
            "rounds": facts.seconds_probes,
            "final": seconds_final,
            "total": 0.0,
        },
        "weights": facts.weights,
    }


def _versions() -> dict[str, str]:
    found = {"cxrguard": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _rest(facts: RunFacts, study: Study, strips: list[dict[str, Any]]) -> dict[str, Any]:
    curve = [{"step": r["step"], "heldout_loss": r["heldout_loss"], "images": r["n"]["heldout"]} for r in facts.curves]
    return {
        "fidelity": {
            "heldout_loss": facts.heldout_loss,
            "heldout_loss_base": facts.heldout_loss_base,
            "heldout_loss_curve": curve,
        },
        "sanitizer": study.sanitizer_counts | {"residual_markers": facts.n_residual},
        "actions": facts.actions,
        "privacy": facts.privacy,
        "curves": facts.curves,
        "forecast": forecast_of(facts.curves, int(facts.config["seed"])),
        "strips": strips,
        "null_reasons": {
            "extraction.groups.*.*.*.any_on_canaries": "no sample of these prompts replays a training image",
            "controls.prompt_only": "the run has no prompt-only controls, or generates no image under them",
            "detectors.*.lowest_repeats": "trusted at no repeat level of this run",
            "privacy": "trained without it (guard=dp)",
            "fidelity.labels": "not asked for",
            "fidelity.distance": "not asked for",
            "forecast.slope_ci": "too few of the resampled canaries came back for an interval",
            "forecast.levels.*.ci": "too few of the resampled canaries came back for an interval",
            "forecast.levels.*.observed": "no canary of this level",
            "forecast.levels.*.covered": "no canary of this level, or no interval",
            "inference_mitigations": "not asked for (mitigation=inference)",
            "words.top.*.canaries": "in no canary's prompt",
            "words.top.*.others": "in canaries' prompts alone",
            "words.top.*.contribution_ci": "of a single patient",
            "curves": "not defined at this step: no training loss yet, or a group without scores",
        },
    }
