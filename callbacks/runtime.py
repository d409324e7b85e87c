"""What a run needs of its surroundings: quiet libraries, the right device, a progress display."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from pytorch_lightning.utilities import rank_zero_only
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cxrguard.errors import CxrguardError
from cxrguard.progress import can_draw

_NOISE = (
    ".*does not have many workers.*",
    ".*GPU available but not used.*",
    ".*checkpoint directory.*exists and is not empty.*",
    ".*Experiment logs directory.*",
    ".*requires torchvision.*",
    ".*in eval mode at the start of training.*",  # a text encoder that is trained without dropout
    ".*smaller than the logging interval.*",
    ".*steps_offset.*",
    ".*LeafSpec.*is deprecated.*",
    ".*isinstance.treespec, LeafSpec.*",
)


def quiet_libraries() -> None:
    """Keep the libraries' chatter off the terminal; their warnings about real trouble stay."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "lightning.pytorch", "wandb", "diffusers", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    _hide_loading_bars()
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)


def _hide_loading_bars() -> None:
    import diffusers.utils.logging
    import transformers.utils.logging

    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def choose_device(accelerator: str) -> str:
    """The torch device of the frozen parts for Lightning's ``accelerator``.

    Raises:
        CxrguardError: a GPU is asked for and torch finds none.

    """
    import torch

    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise CxrguardError(
            f"trainer.accelerator={accelerator}: torch {torch.__version__} finds no GPU on this machine; "
            "use trainer.accelerator=cpu, or install a CUDA build of torch (make install TORCH_INDEX=...)"
        )
    return "cuda" if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available() else "cpu"


def is_first_process() -> bool:
    """Whether this process is the one that judges and writes: the only one, or rank 0 of several."""
    return int(rank_zero_only.rank) == 0


class LineProgress(pl.Callback):
    """A line every tenth of the run, for logs that are not terminals."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Print where the run is."""
        every = max(trainer.max_steps // 10, 1)
        if trainer.global_step % every == 0:
            print(f"{_sweep_job()}step {trainer.global_step}/{trainer.max_steps}, {_state(trainer, outputs)}", flush=True)


def _sweep_job() -> str:
    """Which job of a sweep this is (its directory's name): several may run at once. Nothing outside of a sweep."""
    sweeping = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return f"job {HydraConfig.get().job.num}: " if sweeping else ""


class StepBar(pl.Callback):
    """A live bar over all steps of the run with the time left; Lightning's own shows one epoch at a time."""

    def __init__(self) -> None:
        columns = (
            TextColumn("training"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self._bar = Progress(*columns)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar, at the step that a resumed run starts from."""
        self._bar.start()
        self._task = self._bar.add_task("", total=trainer.max_steps, completed=trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move on."""
        self._bar.update(self._task, completed=trainer.global_step, description=_state(trainer, outputs))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the terminal to what follows."""
        self._bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """See :meth:`on_train_end`."""
        self._bar.stop()


def _state(trainer: pl.Trainer, outputs: Any) -> str:
    extracted = trainer.progress_bar_metrics.get("extracted")
    seen = f", canaries extracted {extracted:.0%}" if extracted is not None else ""
    return f"loss {float(outputs['loss']):.3f}{seen}"


def progress_callback() -> pl.Callback:
    """A live bar on a terminal, a few lines elsewhere; nothing in all processes but the first."""
    if not is_first_process():
        return pl.Callback()
    return StepBar() if can_draw() else LineProgress()
