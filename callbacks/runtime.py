"""What a run needs of its surroundings: quiet libraries, the right device, a progress display."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar

from cxrguard.errors import CxrguardError

_NOISE = (
    ".*does not have many workers.*",
    ".*GPU available but not used.*",
    ".*checkpoint directory.*exists and is not empty.*",
    ".*Experiment logs directory.*",
    ".*requires torchvision.*",
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


class LineProgress(pl.Callback):
    """A line every tenth of the run, for logs that are not terminals."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Print where the run is."""
        every = max(trainer.max_steps // 10, 1)
        if trainer.global_step % every == 0:
            extracted = trainer.progress_bar_metrics.get("extracted")
            seen = f", canaries extracted with one sample {extracted:.0%}" if extracted is not None else ""
            print(f"step {trainer.global_step}/{trainer.max_steps}, loss {float(outputs['loss']):.4f}{seen}", flush=True)


def progress_callback() -> pl.Callback:
    """A live bar on a terminal, a few lines elsewhere."""
    return RichProgressBar(leave=True) if sys.stdout.isatty() else LineProgress()
