"""Runs the probes on a schedule in steps, without leaving a trace in the training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Subset

from callbacks.media import log_images
from cxrguard.audit.budget import TRAINING_COST, Round, plan_round, some_rows
from cxrguard.audit.evaluate import Evaluator, Generated, planted_auc
from cxrguard.audit.evidence import save_grid, to_grid, without_replays
from cxrguard.diffusion.module import HELDOUT_DRAWS, DiffusionModule
from cxrguard.probes.batch import Probe


class ProbeCallback(pl.Callback):
    """Every ``every_n_steps`` optimizer steps: detectors, extraction with one sample, held-out loss, a sample grid.

    All noise is private and the judged weights are put back bit by bit, so that a run with probes ends with the same
    weights as one without.

    Args:
        every_n_steps: optimizer steps between probes; 0 probes never.
        max_evals: a detector that costs more evaluations a prompt is left to the final audit.
        max_share: most that a round may cost of the training between two rounds, in UNet evaluations; where all canaries and
            controls in all their wordings and all held-out images would cost more, a round looks at some of them, the same every
            time, and only in the wording that is trained on. None looks at all of them in every wording.

    """

    def __init__(self, every_n_steps: int = 500, max_evals: int = 8, max_share: float | None = None) -> None:
        self.every_n_steps, self.max_evals, self.max_share = every_n_steps, max_evals, max_share
        self.curves: list[dict[str, Any]] = []
        self.seconds = 0.0  # in this process: those before a resume are not in its time for training either
        self._losses: list[float] = []
        self._evaluator: Evaluator | None = None
        self._round: Round | None = None

    def attach(self, evaluator: Evaluator, probes: Sequence[Probe], heldout: Callable[[], Any], samples_dir: Path) -> None:
        """Give it what it judges with: ``heldout`` makes the held-out batches, grids go to ``samples_dir``."""
        self._evaluator, self._heldout, self._samples_dir = evaluator, heldout, samples_dir
        self._probes = [probe for probe in probes if probe.evals_per_prompt <= self.max_evals]

    def state_dict(self) -> dict[str, Any]:
        """The curves so far survive a resume."""
        chosen = asdict(self._round) if self._round else None
        return {"curves": self.curves, "losses": self._losses, "round": chosen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.curves, self._losses = state_dict["curves"], state_dict["losses"]
        if state_dict.get("round"):  # a curve goes on with what it began with, whatever the settings are now
            self._look_at(Round(**state_dict["round"]))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The base model is judged too: it is what every later figure is held against."""
        self._start = time.perf_counter()
        if trainer.global_step == 0:
            self._probe(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Probe when the schedule says so, once a step."""
        self._losses.append(float(outputs["loss"]))
        step = trainer.global_step
        due = self.every_n_steps and step % self.every_n_steps == 0
        if due and (not self.curves or self.curves[-1]["step"] != step):
            self._probe(trainer, pl_module)

    def _probe(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._evaluator is None or not self.every_n_steps or not isinstance(pl_module, DiffusionModule):
            return
        start = time.perf_counter()
        if self._round is None:
            self._look_at(self._choose(trainer))
        loss = self._train_loss(trainer)
        if trainer.is_global_zero:
            row, canaries = self._measure(pl_module, trainer.global_step, loss)
            self._report(trainer, row, canaries)
        else:
            row = {"step": trainer.global_step}  # only the first process's curves are written
        self.curves.append(row)
        trainer.strategy.barrier("probes")
        self.seconds += time.perf_counter() - start
        self._report_cost(trainer)

    def _report_cost(self, trainer: pl.Trainer) -> None:
        """Seconds that probing has taken in this process, and their share of the time since it began to train."""
        share = self.seconds / max(time.perf_counter() - self._start, 1e-9)
        for logger in trainer.loggers:
            logger.log_metrics({"probes/seconds": self.seconds, "probes/share_of_time": share}, step=trainer.global_step)

    def _train_loss(self, trainer: pl.Trainer) -> float | None:
        """The mean since the last round, over all processes."""
        if not self._losses:
            return None
        mean = sum(self._losses) / len(self._losses)
        self._losses = []
        return mean if trainer.world_size == 1 else float(trainer.strategy.reduce(torch.tensor(mean), reduce_op="mean"))

    def _choose(self, trainer: pl.Trainer) -> Round:
        """What every round looks at."""
        assert self._evaluator is not None
        groups, heldout = self._evaluator.judged.groups, self._heldout()
        whole = Round(len(groups["canaries"]), len(groups["controls"]), len(heldout.dataset))
        everything = replace(whole, every_wording=True)
        if self.max_share is None:
            return everything
        samples = self.every_n_steps * heldout.batch_size * trainer.accumulate_grad_batches * trainer.world_size
        budget = self.max_share * samples * TRAINING_COST
        per_prompt = sum(probe.evals_per_prompt for probe in self._probes) + 2 * self._evaluator.sampler.steps
        wordings = max(len(groups[name].variants) for name in ("canaries", "controls"))
        fits = plan_round(budget, per_prompt * wordings, HELDOUT_DRAWS, whole, heldout.batch_size) == whole
        return everything if fits else plan_round(budget, per_prompt, HELDOUT_DRAWS, whole, heldout.batch_size)

    def _look_at(self, chosen: Round) -> None:
        """From now on at so many of everything, drawn by the seed."""
        assert self._evaluator is not None
        self._round, seed = chosen, self._evaluator.seed
        if chosen.every_wording:
            return
        groups = self._evaluator.judged.groups
        rows = {name: some_rows(len(groups[name]), getattr(chosen, name), name, seed) for name in ("canaries", "controls")}
        self._evaluator = self._evaluator.looking_at(**rows)
        every = self._heldout
        images = some_rows(len(every().dataset), chosen.heldout, "heldout", seed)
        self._heldout = lambda: _subset(every(), images)

    @torch.no_grad()
    def _measure(self, module: DiffusionModule, step: int, train_loss: float | None) -> tuple[dict[str, Any], Generated]:
        assert self._evaluator is not None
        with module.judged() as denoiser:
            evaluator = seen_by(self._evaluator, module)
            detectors = {probe.name: planted_auc(evaluator, denoiser, probe) for probe in self._probes}
            canaries = evaluator.generate(denoiser, "canaries", 1)
            controls = evaluator.generate(denoiser, "controls", 1)
        row = {
            "step": step,
            "train_loss": train_loss,
            "heldout_loss": module.heldout_loss(heldout := self._heldout()),
            "n": {"canaries": len(canaries.pixels), "controls": len(controls.pixels), "heldout": len(heldout.dataset)},
            "extraction_rate": canaries.rate("pixels", "own", 1),
            "extracted": canaries.hits("pixels", "own", 1).int().tolist(),
            "repeats": list(evaluator.judged.groups["canaries"].repeats),
            "spillover_rate": controls.rate("pixels", "any", 1),
            "detectors": detectors,
        }
        return row, canaries

    def _report(self, trainer: pl.Trainer, row: dict[str, Any], canaries: Generated) -> None:
        metrics = {f"memorization/{k}": row[k] for k in ("extraction_rate", "spillover_rate") if row[k] is not None}
        metrics["heldout/loss"] = row["heldout_loss"]
        metrics |= by_level("memorization/extraction_rate", rates_by_repeats(row["extracted"], row["repeats"]))
        for name, values in row["detectors"].items():
            metrics |= {f"detector/{name}/{k}": v for k, v in values.items() if isinstance(v, float)}
            metrics |= by_level(f"exposure/{name}", values["exposure_by_repeats"])
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=row["step"])
        save_grid(canaries.pixels[:, 0], self._samples_dir / f"step_{row['step']:06d}.png")
        log_images(trainer.loggers, "samples", to_grid(without_replays(canaries)), row["step"])
        trainer.progress_bar_metrics["extracted"] = row["extraction_rate"]


def rates_by_repeats(extracted: Sequence[int], repeats: Sequence[int]) -> dict[str, float]:
    """The share of canaries that came back, by how often an epoch shows them."""
    hits = {level: [hit for hit, of in zip(extracted, repeats, strict=True) if of == level] for level in sorted(set(repeats))}
    return {str(level): sum(found) / len(found) for level, found in hits.items()}


def by_level(name: str, values: Mapping[str, float | None]) -> dict[str, float]:
    """A metric for each level of repeats: ``name/repeats_8``."""
    return {f"{name}/repeats_{level}": value for level, value in values.items() if value is not None}


def seen_by(evaluator: Evaluator, module: DiffusionModule) -> Evaluator:
    """The evaluator with the prompts as the module's text encoder reads them now."""
    return evaluator.encoded_again() if module.train_text_encoder else evaluator


def _subset(loader: Any, rows: list[int]) -> DataLoader[Any]:
    return DataLoader(Subset(loader.dataset, rows), loader.batch_size, collate_fn=loader.collate_fn)
