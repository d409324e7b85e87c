"""Hydra callback: collects a sweep into ``study.json`` and a comparing report."""

from __future__ import annotations

import atexit
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from cxrguard.audit.study import write_study


class StudyCallback(Callback):
    """Calls the same collector as ``cxrguard report`` when a sweep has ended, failed jobs included.

    Hydra does not call ``on_multirun_end`` where a launcher raises, as it does for a job that was killed; then the study is written as
    the process ends.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Have the study written whatever happens."""
        self._sweep_dir = Path(config.hydra.sweep.dir).absolute()
        atexit.register(self._collect)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write ``study.json`` and ``report.html`` into the sweep directory."""
        atexit.unregister(self._collect)
        self._collect()

    def _collect(self) -> None:
        if any(self._sweep_dir.glob("*/status.json")):  # no job of a sweep that is refused has one
            write_study(self._sweep_dir)
