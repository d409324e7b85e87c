"""Hydra callback: collects a sweep into ``study.json`` and a comparing report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from cxrguard.audit.study import write_study


class StudyCallback(Callback):
    """Calls the same collector as ``cxrguard report`` when a sweep has ended, failed jobs included."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write ``study.json`` and ``report.html`` into the sweep directory."""
        sweep_dir = Path(config.hydra.sweep.dir)
        if sweep_dir.is_dir():
            write_study(sweep_dir)
