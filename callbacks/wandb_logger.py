"""W&B, offline by default; one run a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger


def build_wandb_logger(
    *, project: str, offline: bool, name: str | None, save_dir: str, group: str | None = None, config: dict[str, Any] | None = None
) -> WandbLogger:
    """A W&B logger that needs no key while ``offline``; the resolved config goes up at the start.

    Args:
        project: W&B project.
        offline: write to ``save_dir``/wandb only; ``wandb sync`` uploads it later.
        name: run name.
        save_dir: the run directory.
        group: runs that belong together: the jobs of a sweep.
        config: the resolved configuration (holds paths and numbers, no report text).

    """
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    settings = {"console": "off", "silent": True}
    return WandbLogger(project=project, offline=offline, name=name, save_dir=save_dir, group=group, config=config or {}, settings=settings)


def finish_wandb() -> None:
    """Close the run, or the jobs of a sweep would merge into one."""
    import wandb

    if wandb.run is not None:
        wandb.finish()
