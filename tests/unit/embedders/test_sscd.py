"""SSCD's loader on a tiny scripted module."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cxrguard.embedders.sscd import IMAGENET_MEAN, IMAGENET_STD, SSCD
from cxrguard.errors import ModelError


class Means(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


class Maps(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def saved(module: nn.Module, path: Path) -> str:
    torch.jit.script(module).save(str(path))
    return str(path)


@pytest.mark.usefixtures("untouched_rng")
def test_preprocessed_as_its_authors_do(tmp_path: Path, images: Tensor) -> None:
    path = saved(Means(), tmp_path / "m.torchscript.pt")
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    found = SSCD(path, size=40, sha256=digest.upper())(images)
    grey = (images.mean(dim=(1, 2, 3)) + 1) / 2
    want = (grey[:, None] - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
    assert SSCD(path)(images).shape == (3, 3)


def test_refused(tmp_path: Path, images: Tensor) -> None:
    path = saved(Maps(), tmp_path / "maps.pt")
    with pytest.raises(ModelError, match="one vector an image"):
        SSCD(path)(images)
    with pytest.raises(ModelError, match="has SHA-256"):
        SSCD(path, sha256="0" * 64)
    torch.save({"a": torch.ones(1)}, tmp_path / "weights.pt")
    for bad in (tmp_path / "weights.pt", Path(__file__)):
        with pytest.raises(ModelError, match=r"as TorchScript.*sscd-copy-detection"):
            SSCD(str(bad))
