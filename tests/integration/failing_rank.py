"""A callback that fails in one process of several, as a bad batch of that process would."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from cxrguard.errors import ResidualMarkerError


class FailingRank(pl.Callback):
    def __init__(self, rank: int, step: int = 1) -> None:
        self.rank, self.step = rank, step

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank == self.rank and trainer.global_step == self.step:
            raise ResidualMarkerError("a marker reached this batch")
