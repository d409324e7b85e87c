"""One job: load, encode, fit, audit, export. ``train.py`` builds what goes in; no Hydra here."""

from __future__ import annotations

import copy
import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger, Logger
from rich.console import Console

from callbacks.checkpoint import AtomicCheckpointIO, resolve_checkpoint
from callbacks.checks import check_privacy, check_probes, check_setting, check_strategy
from callbacks.final_metrics import log_final
from callbacks.guard import GuardCallback
from callbacks.keep_metrics import KeepMetrics
from callbacks.privacy import PrivacyCallback
from callbacks.probe import ProbeCallback, seen_by
from callbacks.runtime import choose_device, is_first_process, progress_callback
from callbacks.steering import SteeringCallback
from callbacks.stop import StopOnSignal, StoppedError
from callbacks.validation import ValidationCallback
from callbacks.wandb_audit import Uploads, log_audit
from callbacks.wandb_logger import finish_wandb
from cxrguard.audit.evaluate import Evaluator
from cxrguard.audit.explain import ReportSettings
from cxrguard.audit.fidelity import Fidelity
from cxrguard.audit.finish import RunFacts, finish_run, without_paths
from cxrguard.audit.groups import build_judged
from cxrguard.audit.inference_mitigations import InferencePlan
from cxrguard.audit.record import lookup
from cxrguard.audit.replication import Replication
from cxrguard.audit.summary import summary_table
from cxrguard.data.datamodule import ReportDataModule
from cxrguard.data.prepare import PromptedRecord, Study, WithoutPatients
from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.diffusion.export import export_adapters, export_pipeline
from cxrguard.diffusion.loading import PipelineParts, load_pipeline
from cxrguard.diffusion.module import DiffusionModule
from cxrguard.diffusion.sampling import Sampler
from cxrguard.diffusion.trainable import check_asked
from cxrguard.errors import CxrguardError
from cxrguard.files import write_json_private
from cxrguard.probes.batch import Probe, needs
from cxrguard.pseudonym import secret_seed


@dataclass(frozen=True)
class BaseStage:
    """Training before the run's own, on other patients of the same data set.

    It stands for the pretraining on X-rays that a real base model had, so that there is something to learn from in
    little time. Its images count as training images in every replay figure.
    """

    data: ReportDataModule
    make_trainer: Callable[..., pl.Trainer]
    steps: int


@dataclass(frozen=True)
class Job:
    """What a run is made of; ``config`` is the resolved configuration in plain types."""

    config: dict[str, Any]
    run_dir: Path
    data: ReportDataModule
    base_stage: BaseStage | None
    make_module: Callable[..., DiffusionModule]
    make_trainer: Callable[..., pl.Trainer]
    probes: list[Probe]
    replication: Replication | None
    inference: InferencePlan | None
    fidelity: Fidelity | None
    callbacks: list[pl.Callback]
    make_wandb: Callable[..., Logger] | None
    uploads: Uploads


def run_job(build: Callable[[], Job], run_dir: Path, seed: int, metric: str, sweeping: bool) -> tuple[float, bool]:
    """Build and run one job, and leave ``status.json`` whatever happens.

    Returns:
        (the metric to optimise, whether the verdict passes); (NaN, False) for a job that failed in a sweep.

    Raises:
        CxrguardError: outside a sweep, when the job fails for a reason that the user can put right.

    """
    status: dict[str, Any] = {"status": "running", "error": None, "seed": seed}
    write_status(run_dir, status)
    try:
        audit = run(build())
    except (StoppedError, SystemExit, KeyboardInterrupt) as stopped:  # the others of a sweep are not begun either
        write_status(run_dir, status | {"status": "stopped", "error": str(stopped) if isinstance(stopped, StoppedError) else None})
        raise
    except Exception as error:
        # The message of an unknown error may quote data, so only its type is kept.
        known = str(error) if isinstance(error, CxrguardError) else f"{type(error).__name__} (see the terminal)"
        write_status(run_dir, status | {"status": "failed", "error": known})
        if not sweeping:
            raise
        print(f"error: {known}", flush=True)
        if not isinstance(error, CxrguardError):
            traceback.print_tb(error.__traceback__)  # the frames, not the message
        return math.nan, False
    finally:
        finish_wandb()
    if audit is None:
        return math.nan, True
    write_status(run_dir, status | {"status": "done"})
    value = lookup(audit, metric)
    return (math.nan if value is None else float(value)), bool(audit["verdict"]["pass"])


def write_status(run_dir: Path, status: dict[str, Any]) -> None:
    """``status.json``; of several processes the first one's."""
    if is_first_process():
        run_dir.mkdir(parents=True, exist_ok=True)
        write_json_private(run_dir / "status.json", status)


def run(job: Job) -> dict[str, Any] | None:
    """Fit, audit and export; returns the audit, or None in all processes but the first."""
    start = time.perf_counter()
    checkpoint = resolve_checkpoint(job.config["ckpt_path"], job.run_dir)
    fit = prepare(job)
    trainer = build_trainer(job, resuming=checkpoint is not None)
    fit_start = time.perf_counter()
    batches = job.data.train_dataloader(trainer.global_rank, trainer.world_size)
    trainer.fit(fit.module, train_dataloaders=batches, ckpt_path=checkpoint, weights_only=True)
    seconds = time.perf_counter() - fit_start - fit.schedule.seconds
    return judge_fit(job, fit, trainer, start, seconds) if trainer.is_global_zero else None


@dataclass(frozen=True)
class Fit:
    """What is trained and what judges it; ``heldout_loss_base`` is that before the first step (of the first process)."""

    parts: PipelineParts
    study: Study
    evaluator: Evaluator
    module: DiffusionModule
    schedule: ProbeCallback
    device: str
    heldout_loss_base: float


def prepare(job: Job) -> Fit:
    """Load, encode, train the base stage, and find out before the fit what would fail after it."""
    config = job.config
    check_strategy(config["trainer"]["strategy"])
    ReportSettings.of(config)
    check_privacy(config)
    device = choose_device(str(config["trainer"]["accelerator"]))
    for part in ("unet", "text_encoder"):  # now: encoding a large data set takes hours
        check_asked(config["model"]["module"][part], f"model.module.{part}")
    parts = load_pipeline(config["model"]["source"], device, config["model"]["schedule"])
    study = job.data.encode(parts)
    check_setting(study, parts, int(job.data.image_size))
    base = fit_base_stage(job, parts, study) if job.base_stage else []
    evaluator = build_evaluator(job, parts, study, base)
    module = job.make_module(parts, seed=config["seed"]).to(device)
    schedule = schedule_of(job)
    schedule.attach(evaluator, job.probes, job.data.val_dataloader, job.run_dir / "samples")
    for callback in job.callbacks:
        if isinstance(callback, ValidationCallback):
            callback.attach(evaluator, job.run_dir / "samples", upload_replays=job.uploads.images)
        if isinstance(callback, SteeringCallback) and callback.acts:
            job.data.steering_dataloader()  # now: without samples to steer by the guard cannot act
            callback.attach(job.data.steering_dataloader)
        if isinstance(callback, PrivacyCallback) and callback.settings:
            callback.attach(len(job.data.train_set), job.data.batch_size, secret_seed("dp-noise", config["seed"]))
    loss = math.nan
    if is_first_process():
        with module.judged() as denoiser:
            check_probes(evaluator, denoiser, job.probes)
        loss = module.heldout_loss(job.data.val_dataloader())
    return Fit(parts, study, evaluator, module, schedule, device, loss)


def judge_fit(job: Job, fit: Fit, trainer: pl.Trainer, start: float, seconds_train: float) -> dict[str, Any]:
    """The audit of what was trained, and its export."""
    module = fit.module.to(fit.device)
    facts = RunFacts(
        config=job.config,
        reader=type(job.data.reader).__name__,
        device=fit.device,
        n_parameters=sum(p.numel() for p in module.trainable()),
        weights=module.weights,
        steps=trainer.global_step,
        start=start,
        seconds_train=seconds_train,
        seconds_probes=fit.schedule.seconds,
        heldout_loss_base=fit.heldout_loss_base,
        heldout_loss=module.heldout_loss(job.data.val_dataloader()),
        curves=fit.schedule.curves,
        actions=actions_of(job),
        n_residual=job.data.count_markers(),
        privacy=next((c.summary() for c in job.callbacks if isinstance(c, PrivacyCallback)), None),
    )
    with module.judged() as denoiser:
        seen = seen_by(fit.evaluator, module)
        audit = finish_run(job.run_dir, seen, denoiser, job.probes, fit.study, facts, job.replication, job.inference, job.fidelity)
        export_pipeline(fit.parts, job.run_dir / "pipeline")
        export_adapters(fit.parts, job.run_dir / "lora")
    log_final(trainer.loggers, audit)
    log_audit(trainer.loggers, job.run_dir, audit, job.uploads)
    Console().print(summary_table(audit, job.run_dir))
    return audit


def schedule_of(job: Job) -> ProbeCallback:
    """The job's probe callback; one that never probes where it has none."""
    return next((c for c in job.callbacks if isinstance(c, ProbeCallback)), None) or ProbeCallback(0)


def actions_of(job: Job) -> list[dict[str, Any]]:
    """What the guard did, by step."""
    taken = [action for c in job.callbacks if isinstance(c, SteeringCallback | GuardCallback) for action in c.actions]
    taken = [*job.data.actions, *taken]
    return sorted(taken, key=lambda action: int(action["step"]))


def build_evaluator(job: Job, parts: PipelineParts, study: Study, base: Sequence[PromptedRecord]) -> Evaluator:
    """The evaluator with the run's fixed sampler."""
    sampling, seed = job.config["sampling"], job.config["seed"]
    sampler = Sampler(parts.scheduler.config, sampling["steps"], sampling["guidance_scale"], sampling["batch_size"])
    judged = build_judged(parts, study, job.data.canaries.n_members, seed, base)
    before = frozen_copy(parts) if any(needs(probe, "base") for probe in job.probes) else None
    return Evaluator(parts, judged, sampler, seed, base=before)


def frozen_copy(parts: PipelineParts) -> UNetDenoiser:
    """The UNet as it is now, before the run's own training; what relative detectors compare with."""
    unet = copy.deepcopy(parts.unet).requires_grad_(False).eval()
    return UNetDenoiser(unet, parts.alphas_cumprod, parts.prediction_type)


def fit_base_stage(job: Job, parts: PipelineParts, study: Study) -> Sequence[PromptedRecord]:
    """Train the UNet on patients that the study does not have; returns what it was trained on."""
    stage = job.base_stage
    assert stage is not None
    stage.data.out_dir.mkdir(parents=True, exist_ok=True)
    stage.data.reader = WithoutPatients(stage.data.reader, study.subjects())
    members = stage.data.encode(parts).members
    module = job.make_module(parts, seed=job.config["seed"] + 1, ema_decay=0.0, unet="full", text_encoder="frozen")
    if is_first_process():
        print(f"base stage: {len(members)} images of other patients, {stage.steps} steps", flush=True)
    trainer = stage.make_trainer(
        accelerator=_accelerator(job),
        callbacks=[progress_callback()],
        enable_progress_bar=False,
        default_root_dir=str(job.run_dir),
        use_distributed_sampler=False,
    )
    trainer.fit(module, train_dataloaders=stage.data.train_dataloader(trainer.global_rank, trainer.world_size))
    module.to(next(parts.vae.parameters()).device)
    return members


def build_trainer(job: Job, resuming: bool = False) -> pl.Trainer:
    """Lightning's trainer, always with a CSV logger, with W&B where the configuration asks for it."""
    kept = [KeepMetrics(job.run_dir / "metrics.csv")] if resuming else []
    loggers: list[Logger] = [CSVLogger(job.run_dir, name="", version="")]
    if job.make_wandb:
        loggers.append(job.make_wandb(config=without_paths(job.config)))
    return job.make_trainer(
        accelerator=_accelerator(job),
        callbacks=[*kept, *job.callbacks, progress_callback(), StopOnSignal()],
        plugins=[AtomicCheckpointIO()],
        logger=loggers,
        default_root_dir=str(job.run_dir),
        enable_progress_bar=False,
        use_distributed_sampler=False,  # the datamodule's own takes turns, so that the global batches stay the same
    )


def _accelerator(job: Job) -> str:
    """The trainer runs where the frozen parts lie."""
    return "cpu" if choose_device(str(job.config["trainer"]["accelerator"])) == "cpu" else "gpu"
