"""SIGTERM, by which Slurm and other batch systems end a job: save after the step that is under way, and end."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytorch_lightning as pl

from callbacks.checkpoint import StepCheckpoint
from cxrguard.errors import CxrguardError


class StoppedError(CxrguardError):
    """The run was told to stop, and saved a checkpoint."""

    exit_status = 128 + signal.SIGTERM


class StopOnSignal(pl.Callback):
    """Saves a checkpoint and ends the run at the end of the step in which SIGTERM came, on any rank."""

    def __init__(self) -> None:
        self._told, self._before, self._step = False, None, -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signal over; Lightning's own handler ends the run without a checkpoint."""
        self._step = trainer.global_step
        if threading.current_thread() is threading.main_thread():  # only the main thread may set a handler
            self._before = signal.signal(signal.SIGTERM, self._tell)  # type: ignore[assignment]

    def _tell(self, *_: object) -> None:
        self._told = True

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look once an optimizer step.

        Raises:
            StoppedError: SIGTERM came.

        """
        step, before, self._step = trainer.global_step, self._step, trainer.global_step
        if step == before or not self._any_rank_told(trainer) or step == trainer.max_steps:
            return
        saver = next((c for c in trainer.callbacks if isinstance(c, StepCheckpoint)), None)
        if saver is not None:
            saver.save(trainer)
        saved = "go on with ckpt_path=last and this run's hydra.run.dir" if saver else "no checkpoint callback is set, so nothing was saved"
        raise StoppedError(f"stopped by SIGTERM after step {step}; {saved}")

    def _any_rank_told(self, trainer: pl.Trainer) -> bool:
        if trainer.world_size == 1:
            return self._told
        return bool(trainer.strategy.reduce_boolean_decision(self._told, all=False))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signal back."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """See :meth:`on_train_end`."""
        self.on_train_end(trainer, pl_module)
