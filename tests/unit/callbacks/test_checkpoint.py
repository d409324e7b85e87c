"""Checkpoints are whole or not there; the newest stay; a damaged one is refused by the name of the one before."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import callbacks.checkpoint as checkpoint
from callbacks.checkpoint import AtomicCheckpointIO, StepCheckpoint, is_whole, resolve_checkpoint, saved_checkpoints
from cxrguard.errors import CxrguardError


class Line(pl.LightningModule):
    """One weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(directory: Path, steps: int, *, every: int = 2, keep: int = 2, **settings: Any) -> None:
    saver = StepCheckpoint(dirpath=str(directory / "checkpoints"), every_n_steps=every, keep=keep)
    trainer = pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[saver],
        plugins=[AtomicCheckpointIO()],
        **settings,
    )
    trainer.fit(Line(), DataLoader(TensorDataset(torch.ones(8, 1)), 2))


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in (directory / "checkpoints").iterdir())


def test_the_newest_stay_and_last_is_the_newest(tmp_path: Path) -> None:
    fit(tmp_path, 7)
    assert names(tmp_path) == ["last.ckpt", "step=000006.ckpt", "step=000007.ckpt"]
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 7
    assert [p.name for p in saved_checkpoints(last.parent)] == ["step=000007.ckpt", "step=000006.ckpt"]
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoints"}, "no temporary file is left"
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in last.parent.iterdir())


def test_zero_keeps_all_and_zero_saves_the_last_step_only(tmp_path: Path) -> None:
    fit(tmp_path / "a", 6, keep=0)
    assert names(tmp_path / "a") == ["last.ckpt", "step=000002.ckpt", "step=000004.ckpt", "step=000006.ckpt"]
    fit(tmp_path / "b", 5, every=0)
    assert names(tmp_path / "b") == ["last.ckpt", "step=000005.ckpt"]


def test_accumulated_batches_save_once_a_step(tmp_path: Path) -> None:
    fit(tmp_path, 4, keep=0, accumulate_grad_batches=2)
    assert names(tmp_path) == ["last.ckpt", "step=000002.ckpt", "step=000004.ckpt"]


def test_steps_of_more_digits_are_newer(tmp_path: Path) -> None:
    for name in ("step=999999.ckpt", "step=1000000.ckpt"):
        (tmp_path / name).touch()
    assert [p.name for p in saved_checkpoints(tmp_path)] == ["step=1000000.ckpt", "step=999999.ckpt"]


@pytest.mark.parametrize("keep", [1, -1])
def test_fewer_than_two_are_refused(keep: int) -> None:
    with pytest.raises(CxrguardError, match=f"checkpoint.keep={keep}: must be 2 or more"):
        StepCheckpoint(dirpath="x", keep=keep)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed")])
def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    fit(tmp_path, 4)
    before = {p.name: p.read_bytes() for p in (tmp_path / "checkpoints").iterdir()}

    def full(_: Any, file: Any) -> None:
        file.write(b"half")
        raise error

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(CxrguardError, match=r"step=000002.ckpt: the checkpoint could not be written .*Make room.*ckpt_path=last"):
        fit(tmp_path, 4)
    assert {p.name: p.read_bytes() for p in (tmp_path / "checkpoints").iterdir()} == before
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoints"}


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint-123-step=000002.ckpt").write_bytes(b"half")
    fit(tmp_path, 2)
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoints"}


def test_a_file_system_without_links_gets_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(checkpoint.os, "link", refuse)
    fit(tmp_path, 2)
    directory = tmp_path / "checkpoints"
    assert (directory / "last.ckpt").read_bytes() == (directory / "step=000002.ckpt").read_bytes()


def test_resolving(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert resolve_checkpoint(None, tmp_path) is None
    assert resolve_checkpoint("last", tmp_path) is None and "starts afresh" in capsys.readouterr().out
    fit(tmp_path, 4)
    assert resolve_checkpoint("last", tmp_path) == str(tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(CxrguardError, match="no such file"):
        resolve_checkpoint(str(tmp_path / "nothing.ckpt"), tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_newest_checkpoint_names_the_one_before(tmp_path: Path, damage: str) -> None:
    fit(tmp_path, 4)
    last = tmp_path / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes(255 - b for b in whole[middle : middle + 64]) + whole[middle + 64 :]
    last.write_bytes({"cut": whole[:middle], "flipped": flipped, "empty": b""}[damage])  # both names are of one file
    assert not is_whole(last)
    with pytest.raises(CxrguardError) as error:
        resolve_checkpoint("last", tmp_path)
    before = tmp_path / "checkpoints" / "step=000002.ckpt"
    assert f"ckpt_path='{before}'" in str(error.value) and resolve_checkpoint(str(before), tmp_path)
    before.write_bytes(b"")
    with pytest.raises(CxrguardError, match="no whole one beside it; start without ckpt_path"):
        resolve_checkpoint("last", tmp_path)
