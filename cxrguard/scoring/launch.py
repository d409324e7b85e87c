"""Several devices at once, by Lightning Fabric: the one file that knows it."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cxrguard.errors import CxrguardError
from cxrguard.files import read_json, write_json_private
from cxrguard.tables.progress import progress_bar

_FAILED = "failed-{rank}.json"

if TYPE_CHECKING:
    from lightning_fabric import Fabric

ShareFunction = Callable[..., None]  # device, rank, world, on_done: hears how many prompts of the share are done


def pick_device() -> str:
    """The device of a process alone."""
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def share_out(devices: int, share: ShareFunction, notes: Path, what: str, left: int, *, show: bool) -> None:
    """Does the work here if one device is to do it, with a bar, else in a process a device; see :func:`run_on`.

    Args:
        devices: how many.
        share: does the share of a process.
        notes: a directory for why processes failed.
        what: stands before the bar, e.g. "Scoring".
        left: how many prompts there are to do.
        show: whether there is a bar, if standard error is a terminal.

    """
    if devices > 1:
        run_on(devices, share, notes)
        return
    done = 0
    with progress_bar(what, lambda: (done, left), show=show) as update:

        def count(so_far: int) -> None:
            nonlocal done
            done = so_far
            update(so_far)

        share(pick_device(), on_done=count)


def run_on(devices: int, share: ShareFunction, notes: Path) -> None:
    """Runs ``share`` in a process a device, and waits for all.

    Args:
        devices: how many.
        share: a function that can be sent to another process.
        notes: a directory in which processes leave why they failed.

    Raises:
        CxrguardError: If one failed, in its own words.

    """
    if torch.cuda.is_available() and devices > torch.cuda.device_count():
        raise CxrguardError(f"--devices {devices}: this machine has {torch.cuda.device_count()} GPU(s).")
    for old in notes.glob(_FAILED.format(rank="*")):
        old.unlink()
    from lightning_fabric import Fabric  # two seconds that one device need not wait

    _hush()
    fabric = Fabric(accelerator="cuda" if torch.cuda.is_available() else "cpu", devices=devices, strategy="ddp_spawn")
    try:
        fabric.launch(functools.partial(_run, share=share, notes=notes))
    except BaseException as error:
        _end_children()
        if isinstance(error, Exception):
            raise CxrguardError(_reason(notes, error)) from None
        raise


def _run(fabric: Fabric, share: ShareFunction, notes: Path) -> None:
    _hush()
    try:
        share(str(fabric.device), fabric.global_rank, fabric.world_size)
    except Exception as error:
        # torch would hand the whole traceback on, whose messages may quote a prompt.
        told = str(error) if isinstance(error, CxrguardError) else f"a process failed ({_place(error)})."
        write_json_private(notes / _FAILED.format(rank=fabric.global_rank), {"reason": told})
        raise SystemExit(1) from None


def _place(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"


def _reason(notes: Path, error: Exception) -> str:
    for path in sorted(notes.glob(_FAILED.format(rank="*"))):
        return str(read_json(path)["reason"])
    return f"a process ended early ({type(error).__name__}); was it killed for want of memory? The run goes on where it stopped."


def _end_children() -> None:
    for child in multiprocessing.active_children():
        child.terminate()


def _hush() -> None:
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


# A process that is started imports this file after Fabric and before Fabric has anything to say.
_hush()
