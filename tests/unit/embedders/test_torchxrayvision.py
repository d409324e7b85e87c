"""TorchXRayVision's DenseNet, against modules of the same names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cxrguard.embedders.torchxrayvision import TorchXRayVision
from cxrguard.errors import ModelError


class Layer(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(n), nn.Conv2d(n, 6, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(6), nn.Conv2d(6, 3, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(torch.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(torch.relu(self.norm2(new)))], 1)


class Transition(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.norm, self.conv, self.pool = nn.BatchNorm2d(n), nn.Conv2d(n, n // 2, 1, bias=False), nn.AvgPool2d(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(torch.relu(self.norm(x))))


class Dense(nn.Module):
    """2 + 1 layers of growth 3."""

    def __init__(self) -> None:
        super().__init__()
        block1 = nn.Sequential()
        block1.add_module("denselayer1", Layer(8))
        block1.add_module("denselayer2", Layer(11))
        block2 = nn.Sequential()
        block2.add_module("denselayer1", Layer(7))
        self.features = nn.Sequential()
        for name, part in {
            "conv0": nn.Conv2d(1, 8, 7, 2, 3, bias=False),
            "norm0": nn.BatchNorm2d(8),
            "relu0": nn.ReLU(),
            "pool0": nn.MaxPool2d(3, 2, 1),
            "denseblock1": block1,
            "transition1": Transition(14),
            "denseblock2": block2,
            "norm5": nn.BatchNorm2d(10),
        }.items():
            self.features.add_module(name, part)
        self.classifier = nn.Linear(10, 2)


@pytest.fixture
def net() -> Dense:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Dense().train()
        net.features(torch.randn(8, 1, 32, 32) * 500)  # statistics that are not 0 and 1
        return net.eval()


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_features_are_those_of_the_modules(net: Dense, tmp_path: Path, images: Tensor, ending: str) -> None:
    path = tmp_path / f"densenet.{ending}"
    state = {k: v for k, v in net.state_dict().items() if v.ndim}
    save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    found = TorchXRayVision(str(path), batch_size=2)(images)
    pixels = interpolate(images, (224, 224), mode="bilinear", antialias=True) * 1024
    with torch.no_grad():
        want = torch.relu(net.features(pixels)).mean(dim=(2, 3))
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)


def test_other_files_are_refused(net: Dense, tmp_path: Path) -> None:
    torch.save(net, tmp_path / "pickled.pt")  # as TorchXRayVision publishes them
    with pytest.raises(ModelError, match=r"pickled code is never run.*save the weights once"):
        TorchXRayVision(str(tmp_path / "pickled.pt"))
    state = {k: v for k, v in net.state_dict().items() if v.ndim and "norm5" not in k}
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(ModelError, match=r"not the state dict of a DenseNet.*norm5"):
        TorchXRayVision(str(tmp_path / "part.safetensors"))
