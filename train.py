"""Compose the configuration, build everything by ``_target_``, fit, audit, export. Run ``python train.py --help``."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from callbacks.runtime import is_first_process, quiet_libraries
from cxrguard.errors import CxrguardError
from cxrguard.termination import ended_cleanly


def build_data(cfg: DictConfig, run_dir: Path, **overrides: Any) -> Any:
    """The datamodule for ``cfg``; ``overrides`` replace its arguments."""
    from cxrguard.data.datamodule import ReportDataModule

    sizes = {name: cfg.data[name] for name in ("batch_size", "image_size", "heldout_fraction", "max_bad_fraction")}
    sizes["window"] = cfg.data.get("window")  # data without image files has none
    sizes["count_duplicates"] = bool(cfg.data.get("duplicates"))
    sizes["input_ids"] = cfg.model.module.text_encoder != "frozen"
    sizes["private"] = bool(cfg.guard.dp)
    sizes |= {name: instantiate(cfg.guard[name]) for name in ("repeats", "captions", "recaption")}
    places = {"out_dir": run_dir, "cache_dir": cache_dir(cfg, run_dir)}
    arguments: dict[str, Any] = {"canaries": instantiate(cfg.canaries), "seed": cfg.seed, **places, **sizes, **overrides}
    return ReportDataModule(instantiate(cfg.data.reader), instantiate(cfg.sanitizer), **arguments)


def cache_dir(cfg: DictConfig, run_dir: Path) -> Path:
    """Where images, latents and hidden states are kept: ``cache.dir``, or the run's own that is removed at its end."""
    return Path(cfg.cache.dir).expanduser() if cfg.cache.dir else run_dir / "cache"


@contextmanager
def own_cache_removed(cfg: DictConfig, run_dir: Path) -> Iterator[None]:
    """A cache of the run's own is gone after it; a run that was killed or told to stop finds it again when it goes on."""
    from callbacks.stop import StoppedError

    stopped = False
    try:
        yield
    except (StoppedError, SystemExit, KeyboardInterrupt):
        stopped = True
        raise
    finally:
        if not (stopped or cfg.cache.dir) and is_first_process():
            shutil.rmtree(cache_dir(cfg, run_dir), ignore_errors=True)


def build_replication(cfg: DictConfig) -> Any:
    """The detectors that generate, or None."""
    from cxrguard.audit.replication import Replication

    samples = int(cfg.sampling.samples_per_prompt_replication)
    return Replication(instantiate(cfg.embedder), samples) if samples else None


def build_base_stage(cfg: DictConfig, run_dir: Path) -> Any:
    """The data and trainer of a base stage, or None."""
    from callbacks.job import BaseStage
    from cxrguard.data.prepare import CanarySettings

    if not cfg.base_stage:
        return None
    merged = OmegaConf.merge(cfg, {"data": {"reader": {"views": list(cfg.base_stage.views)}}})
    assert isinstance(merged, DictConfig)
    stage: dict[str, Any] = {"canaries": CanarySettings(n=0), "heldout_fraction": 0.05, "count_duplicates": False}
    stage |= {"repeats": None, "captions": None, "recaption": None, "private": False}
    stage |= {"cache_dir": cache_dir(cfg, run_dir), "input_ids": False}
    data = build_data(merged, run_dir / "base_stage", **stage)
    trainer = instantiate(cfg.trainer, _partial_=True, max_steps=cfg.base_stage.max_steps, logger=False, enable_checkpointing=False)
    return BaseStage(data, trainer, cfg.base_stage.max_steps)


def build_job(cfg: DictConfig, run_dir: Path) -> Any:
    """Everything that the configuration names, built."""
    try:
        return _build_job(cfg, run_dir)
    except MissingMandatoryValue as error:
        raise CxrguardError(f"{error.full_key} is not set; give it on the command line, e.g. {error.full_key}=...") from None
    except InstantiationException as error:
        # Hydra wraps what the objects raise; the user needs the project's own message.
        if isinstance(error.__cause__, CxrguardError):
            raise error.__cause__ from None
        raise


def _build_job(cfg: DictConfig, run_dir: Path) -> Any:
    from callbacks.job import Job
    from callbacks.wandb_audit import Uploads

    plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    wandb = cfg.logger.wandb
    return Job(
        config=plain | {"overrides": list(HydraConfig.get().overrides.task)},
        run_dir=run_dir,
        data=build_data(cfg, run_dir),
        base_stage=build_base_stage(cfg, run_dir),
        make_module=instantiate(cfg.model.module),
        make_trainer=instantiate(cfg.trainer, _partial_=True),
        probes=[instantiate(probe) for probe in cfg.probe.values() if probe],
        replication=build_replication(cfg),
        inference=instantiate(cfg.mitigation) if cfg.mitigation else None,
        fidelity=instantiate(cfg.fidelity) if cfg.fidelity else None,
        callbacks=[instantiate(callback) for callback in cfg.callbacks.values() if callback],
        make_wandb=instantiate(wandb, _partial_=True, group=wandb.group or sweep_name()) if wandb else None,
        uploads=Uploads(bool(cfg.logger.upload_images), bool(cfg.logger.upload_model)),
    )


def sweep_name() -> str | None:
    """The name of the sweep's directory, for what belongs together; None outside a sweep."""
    hydra_config = HydraConfig.get()
    return Path(hydra_config.sweep.dir).name if hydra_config.mode == RunMode.MULTIRUN else None


def told(value: float) -> float | None:
    """What the sweeper is told: hydra-optuna-sweeper 1.3 counts None as a failed trial, and ends the whole sweep at NaN."""
    optuna = str(HydraConfig.get().runtime.choices.get("hydra/sweeper")) == "optuna"
    return None if optuna and math.isnan(value) else value


def refuse_in_a_sweep(cfg: DictConfig) -> None:
    """End with status 2 for what cannot be done with ``-m``."""
    wrong = ""
    if cfg.gate.enforce:
        wrong = "gate.enforce=true would end a sweep at its first refusal; leave it out with -m, run cxrguard gate after"
    if str(cfg.trainer.devices) not in ("1", "auto") or int(cfg.trainer.get("num_nodes", 1)) != 1:
        wrong = "a sweep (-m) runs its jobs in one process each; with several devices start each job by itself, then cxrguard report DIR"
    if wrong:
        print(f"error: {wrong}", file=sys.stderr)
        sys.exit(2)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Run one job; in a sweep a failed job is written down and returns NaN, so that the others go on."""
    quiet_libraries()
    from callbacks.job import run_job

    run_dir = Path(HydraConfig.get().runtime.output_dir)
    sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
    if sweeping:
        refuse_in_a_sweep(cfg)
    try:
        with ended_cleanly(), own_cache_removed(cfg, run_dir):
            value, passed = run_job(lambda: build_job(cfg, run_dir), run_dir, int(cfg.seed), cfg.optimized_metric, sweeping)
    except CxrguardError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(getattr(error, "exit_status", 1))
    if cfg.gate.enforce and not passed:
        sys.exit(3)
    return told(value)


if __name__ == "__main__":
    main()
