"""Calibrates the guard's training-time mitigations on held-out samples, and writes down what they do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl

from cxrguard.diffusion.module import DiffusionModule
from cxrguard.mitigations.training.base import LossMitigation
from cxrguard.mitigations.training.combined import Combined

FIRST = 4
"""Calibrations that the first one stands for."""

EARLY = 5
"""The loss falls fastest in the first steps: calibrations after so many, then after twice as many each, up to the regular ones."""


class SteeringCallback(pl.Callback):
    """Gives the module its mitigation and calibrates it before the first step and every ``every_n_steps`` after, oftener at first.

    The steering samples are looked at with the weights that are in training and with noise of their own, so that a run whose
    mitigations never act ends with the weights of one without. Every process calibrates with all of them: all take the same action.

    Args:
        mitigations: by any name; those that are None are left out.
        every_n_steps: optimizer steps between calibrations.
        draws: noises and timesteps of each steering sample at a calibration.

    """

    def __init__(self, mitigations: Mapping[str, LossMitigation | None], every_n_steps: int = 100, draws: int = 4) -> None:
        self.mitigation = Combined([m for m in mitigations.values() if m is not None])
        self.every_n_steps, self.draws = every_n_steps, draws
        self.actions: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._calibrated_at, self._drawn = -1, 0

    @property
    def acts(self) -> bool:
        """Whether there is a mitigation at all."""
        return bool(self.mitigation.parts)

    def attach(self, steering: Callable[[], Any]) -> None:
        """``steering`` makes the batches of held-out samples that are kept for this."""
        self._batches = steering

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """From now on the module weighs its samples."""
        if self.acts and isinstance(pl_module, DiffusionModule):
            pl_module.mitigation = self.mitigation

    def state_dict(self) -> dict[str, Any]:
        """What was learned and done survives a resume."""
        when = {"calibrated_at": self._calibrated_at, "drawn": self._drawn}
        return {"mitigation": self.mitigation.state_dict(), "actions": self.actions, **when}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`.

        Raises:
            CxrguardError: the checkpoint was written with other mitigations.

        """
        self.mitigation.load_state_dict(state_dict["mitigation"])
        self.actions = state_dict["actions"]
        self._calibrated_at, self._drawn = state_dict["calibrated_at"], state_dict["drawn"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Calibrated before the first step, with more noises: later calibrations stand on those before them too."""
        if trainer.global_step == 0:
            self._calibrate(trainer, pl_module, FIRST)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Calibrate when the schedule says so, once a step."""
        if is_due(trainer.global_step, self.every_n_steps) and trainer.global_step != self._calibrated_at:
            self._calibrate(trainer, pl_module)

    def _calibrate(self, trainer: pl.Trainer, pl_module: pl.LightningModule, times: int = 1) -> None:
        if not self.acts or not isinstance(pl_module, DiffusionModule):
            return
        start, self._calibrated_at = time.perf_counter(), trainer.global_step
        self._write_down(trainer)
        draws = range(self._drawn, self._drawn + self.draws * times)
        self._drawn = draws.stop
        self.mitigation.calibrate(pl_module.steering_losses(self._batches(), draws))
        self.seconds += time.perf_counter() - start

    def _write_down(self, trainer: pl.Trainer) -> None:
        """What was held back since the last calibration: shares of the samples, never which."""
        if not self.mitigation.samples:
            return
        shares = self.mitigation.counted()
        for name, share in shares.items():
            if share > 0:
                self.actions.append({"step": trainer.global_step, "action": "hold_back", "by": name, "share": round(share, 4)})
        for logger in trainer.loggers:
            logger.log_metrics({f"guard/held_back/{name}": share for name, share in shares.items()}, step=trainer.global_step)


def is_due(step: int, every: int) -> bool:
    """Whether a calibration follows ``step``: 5, 10, 20, … below ``every``, then its multiples."""
    early = step < every and step % EARLY == 0 and (step // EARLY).bit_count() == 1
    return early or step % every == 0
