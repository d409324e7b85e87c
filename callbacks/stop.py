"""SIGTERM, by which Slurm and other batch systems end a job, and SIGUSR2, by which submitit queues it again: save, then end."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import pytorch_lightning as pl

from callbacks.checkpoint import StepCheckpoint
from cxrguard.errors import CxrguardError


class StoppedError(CxrguardError):
    """The run was told to stop, and saved a checkpoint."""

    exit_status = 128 + signal.SIGTERM


class StopOnSignal(pl.Callback):
    """Saves a checkpoint and ends the run at the end of the step in which SIGTERM came, on any rank.

    SIGUSR2 too where submitit listens for it; its handler is called once the checkpoint is saved, and queues the job again.
    """

    def __init__(self) -> None:
        self._told, self._step = 0, -1
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signal over; Lightning's own handler ends the run without a checkpoint."""
        self._step = trainer.global_step
        if threading.current_thread() is not threading.main_thread():  # only the main thread may set a handler
            return
        self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._tell)
        if callable(signal.getsignal(signal.SIGUSR2)):
            self._before[signal.SIGUSR2] = signal.signal(signal.SIGUSR2, self._tell)

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self._told = number

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
        if self._told == signal.SIGUSR2:
            self._before[signal.SIGUSR2](signal.SIGUSR2, None)  # ends the process
        saved = "go on with ckpt_path=last and this run's hydra.run.dir" if saver else "no checkpoint callback is set, so nothing was saved"
        raise StoppedError(f"stopped by SIGTERM after step {step}; {saved}")

    def _any_rank_told(self, trainer: pl.Trainer) -> bool:
        if trainer.world_size == 1:
            return bool(self._told)
        return bool(trainer.strategy.reduce_boolean_decision(bool(self._told), all=False))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signals back."""
        while self._before:
            signal.signal(*self._before.popitem())

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """See :meth:`on_train_end`."""
        self.on_train_end(trainer, pl_module)
