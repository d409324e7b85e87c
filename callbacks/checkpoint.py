"""Checkpoints from which a run goes on bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint


class StepCheckpoint(ModelCheckpoint):
    """Lightning's, and ``last.ckpt`` is always the last step's, whatever ``every_n_train_steps``.

    Lightning alone writes it after the end of training where no step was due; such a file counts the epoch that was
    broken off as a whole one, and a run that goes on from it sees other samples and other noise.
    """

    def __init__(self, *, dirpath: str, every_n_train_steps: int, **kwargs: Any) -> None:
        super().__init__(dirpath=dirpath, every_n_train_steps=every_n_train_steps, **kwargs)
        self._last_file, self._every = Path(dirpath) / "last.ckpt", every_n_train_steps

    @property
    def state_key(self) -> str:
        """Free of the settings, so that a resumed run may save at other steps."""
        return "StepCheckpoint"

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save when it is due, and after the last step."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        due = self._every > 0 and trainer.global_step % self._every == 0
        if trainer.global_step == trainer.max_steps and not due:
            trainer.save_checkpoint(self._last_file)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nothing is left to save."""
