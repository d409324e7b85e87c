"""What the user's own prompts give as the model trains: a grid of images on a schedule, always from the same noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from callbacks.media import log_images
from callbacks.probe import seen_by
from cxrguard.audit.evaluate import Evaluator
from cxrguard.audit.evidence import every_sample, save_grid, to_grid
from cxrguard.data.validation_prompts import read_validation_prompts
from cxrguard.diffusion.module import DiffusionModule


class ValidationCallback(pl.Callback):
    """Before the first step, and every ``every_n_steps`` steps: ``samples/validation_000500.png``, a row a prompt.

    The noise of a prompt's samples is a function of its text and the run's seed, so that grids differ by the weights alone, and the
    training goes on as if nothing had been generated. Prompts are used as they are, unsanitized.

    Args:
        prompts: a text file, one prompt a line; None generates nothing.
        every_n_steps: optimizer steps between grids; 0 generates nothing.
        samples_per_prompt: columns of the grid.

    Raises:
        BadInputError: the file cannot be used.

    """

    def __init__(self, prompts: str | None = None, every_n_steps: int = 500, samples_per_prompt: int = 4) -> None:
        self.prompts = read_validation_prompts(prompts) if prompts and every_n_steps else []
        self.every_n_steps, self.samples_per_prompt = every_n_steps, samples_per_prompt
        self._evaluator: Evaluator | None = None
        self._last = -1

    def attach(self, evaluator: Evaluator, samples_dir: Path, upload_replays: bool) -> None:
        """Give it what it generates with.

        Args:
            evaluator: the run's; its sampler, noise and replay thresholds are used.
            samples_dir: where grids go.
            upload_replays: whether W&B may have samples that replay a training image; they are black there if not.

        """
        self._samples_dir, self._upload_replays = samples_dir, upload_replays
        self._evaluator = evaluator.generating(self.prompts) if self.prompts else None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What the prompts gave before the first step."""
        if trainer.global_step == 0:
            self._generate(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Generate when the schedule says so, once a step."""
        if self.prompts and trainer.global_step % self.every_n_steps == 0 and trainer.global_step != self._last:
            self._generate(trainer, pl_module)

    @torch.no_grad()
    def _generate(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._evaluator is None or not isinstance(pl_module, DiffusionModule):
            return
        self._last = step = trainer.global_step
        if trainer.is_global_zero:
            with pl_module.judged() as denoiser:
                generated = seen_by(self._evaluator, pl_module).generate(denoiser, "validation", self.samples_per_prompt)
            columns = self.samples_per_prompt
            save_grid(every_sample(generated, replays=True), self._samples_dir / f"validation_{step:06d}.png", columns)
            log_images(trainer.loggers, "validation", to_grid(every_sample(generated, self._upload_replays), columns), step)
            rate = generated.rate("pixels", "any", self.samples_per_prompt)
            for logger in trainer.loggers:
                logger.log_metrics({"validation/replay_rate": float(rate or 0.0)}, step=step)
        trainer.strategy.barrier("validation")
