"""Checkpoints from which a run goes on bit by bit, and that no crash, full disk or signal can spoil."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from cxrguard.errors import CxrguardError

LAST = "last.ckpt"
_TEMPORARY = ".checkpoint-"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the checkpoints' directory, then renames: in it lie whole checkpoints only, readable by the owner."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """See Lightning's.

        Raises:
            CxrguardError: the disk is full or the directory cannot be written; what was there before is untouched.

        """
        path = Path(path)
        temporary = path.parent.parent / f"{_TEMPORARY}{os.getpid()}-{path.name}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch says RuntimeError where its writer fails
            temporary.unlink(missing_ok=True)
            why = error.strerror if isinstance(error, OSError) and error.strerror else "the disk may be full"
            raise CxrguardError(
                f"{path.name}: the checkpoint could not be written ({why}); the earlier ones are whole. "
                "Make room, then go on with ckpt_path=last and this run's hydra.run.dir"
            ) from None


class StepCheckpoint(Checkpoint):
    """``step=000500.ckpt`` every ``every_n_steps`` optimizer steps and after the last; ``last.ckpt`` is the newest of them.

    Lightning's own also saves after the end of training; such a file counts the epoch that was broken off as a whole one,
    and a run that goes on from it sees other samples and other noise.

    Args:
        dirpath: where they go.
        every_n_steps: optimizer steps between them; 0 saves after the last step only.
        keep: how many of the newest stay, 2 at least, so that there is one before a corrupt one; 0 keeps all.

    Raises:
        CxrguardError: ``keep`` is 1 or negative.

    """

    def __init__(self, *, dirpath: str, every_n_steps: int = 500, keep: int = 2) -> None:
        if keep < 0 or keep == 1:
            raise CxrguardError(f"checkpoint.keep={keep}: must be 2 or more, so that there is one before a corrupt one, or 0 for all")
        self._directory, self._every, self._keep = Path(dirpath), every_n_steps, keep
        self._saved = -1

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Clear away what a killed run left half written."""
        if trainer.is_global_zero:
            for left in self._directory.parent.glob(f"{_TEMPORARY}*"):
                left.unlink(missing_ok=True)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save when it is due, and after the last step."""
        step = trainer.global_step
        if step == trainer.max_steps or (self._every > 0 and step > 0 and step % self._every == 0):
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Save now, once a step; called on every rank."""
        step = trainer.global_step
        if step == self._saved:
            return
        self._saved = step
        path = self._directory / f"step={step:06d}.ckpt"
        trainer.save_checkpoint(path)
        if trainer.is_global_zero:
            _point(self._directory / LAST, path)
            for old in saved_checkpoints(self._directory)[self._keep :] if self._keep else []:
                old.unlink(missing_ok=True)


def _point(last: Path, path: Path) -> None:
    """Make ``last`` another name of ``path``, in one step; a copy where the file system has no links."""
    temporary = last.parent.parent / f"{_TEMPORARY}{os.getpid()}-{LAST}"
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
        temporary.chmod(0o600)
    temporary.replace(last)


def saved_checkpoints(directory: Path) -> list[Path]:
    """The checkpoints of steps, the newest first."""
    return sorted(directory.glob("step=*.ckpt"), key=lambda path: (len(path.name), path.name), reverse=True)


def is_whole(path: Path) -> bool:
    """Whether a checkpoint was written to its end and is as it was written (the checksums of its parts hold)."""
    try:
        with zipfile.ZipFile(path) as parts:
            return parts.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError):
        return False


def resolve_checkpoint(ckpt_path: str | None, run_dir: Path) -> str | None:
    """A checkpoint file; ``last`` is the run directory's own, and without one the run starts afresh and says so.

    Raises:
        CxrguardError: the file does not exist, or is no whole checkpoint; then with the newest whole one beside it.

    """
    if ckpt_path is None:
        return None
    path = run_dir / "checkpoints" / LAST if ckpt_path == "last" else Path(ckpt_path).expanduser()
    if not path.is_file():
        if ckpt_path != "last":
            raise CxrguardError(f"ckpt_path={ckpt_path}: no such file; give a checkpoint, or 'last' with the run's own hydra.run.dir")
        print("ckpt_path=last: this run directory has no checkpoint, so the run starts afresh (set hydra.run.dir to go on)", flush=True)
        return None
    if is_whole(path):
        return str(path)
    other = next((other for other in saved_checkpoints(path.parent) if not other.samefile(path) and is_whole(other)), None)
    remedy = "there is no whole one beside it; start without ckpt_path"
    if other:
        remedy = f"go on from the one before it: ckpt_path='{other}'"
    raise CxrguardError(f"ckpt_path={ckpt_path}: {path} is no checkpoint, or was cut off or damaged; {remedy}")
