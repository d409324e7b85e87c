"""``metrics.csv`` over a resume: Lightning's CSV logger deletes the file when it starts."""

from __future__ import annotations

import csv
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger


class KeepMetrics(pl.Callback):
    """Writes the rows of an earlier part of the run again, up to the step that it is resumed from.

    Args:
        path: the run's ``metrics.csv``, read now, before the logger starts.

    """

    def __init__(self, path: Path) -> None:
        self._rows: list[dict[str, str]] = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self._rows = list(csv.DictReader(file))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the kept rows; those after the checkpoint, and the final figures, come anew."""
        self._write(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A finished run that is resumed starts no training; its rows are kept all the same."""
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        rows, self._rows = self._rows, []
        for logger in trainer.loggers:
            for row in rows if isinstance(logger, CSVLogger) else []:
                step = int(row["step"])
                final = any(value for name, value in row.items() if name.startswith("final/"))
                if step <= trainer.global_step and not final:
                    logger.log_metrics({name: float(value) for name, value in row.items() if value and name != "step"}, step)
