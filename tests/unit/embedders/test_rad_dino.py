"""RAD-DINO's loader on a tiny DINOv2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import Dinov2Config, Dinov2Model

from cxrguard.embedders.rad_dino import RadDino
from cxrguard.errors import ModelError

PREPROCESSING = {"crop_size": {"height": 28, "width": 28}, "image_mean": [0.53] * 3, "image_std": [0.26] * 3, "resample": 3}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=28, patch_size=14)
        Dinov2Model(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))
    return tmp_path


@pytest.mark.usefixtures("untouched_rng")
def test_the_class_token_after_the_directory_s_own_preprocessing(directory: Path, images: Tensor) -> None:
    found = RadDino(str(directory), batch_size=2)(images)
    pixels = (interpolate(images, (28, 28), mode="bicubic", antialias=True).clamp(-1, 1) + 1) / 2
    model = Dinov2Model.from_pretrained(directory).eval()
    with torch.no_grad():
        want = model(pixel_values=((pixels - 0.53) / 0.26).expand(-1, 3, -1, -1)).last_hidden_state[:, 0]
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)


def edit(directory: Path, name: str, **changes: object) -> None:
    (directory / name).write_text(json.dumps(json.loads((directory / name).read_text()) | changes))


def test_refused(directory: Path) -> None:
    edit(directory, "preprocessor_config.json", image_mean=None)
    with pytest.raises(ModelError, match="gives no size"):
        RadDino(str(directory))
    (directory / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"preprocessor_config.json.*Download microsoft/rad-dino"):
        RadDino(str(directory))


def test_another_model_or_one_with_missing_or_pickled_weights_is_refused(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "layernorm" not in k}, directory / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="lacks 2 of the encoder's weights"):
        RadDino(str(directory))
    (directory / "model.safetensors").unlink()
    torch.save(weights, directory / "pytorch_model.bin")
    with pytest.raises(ModelError, match="from safetensors"):
        RadDino(str(directory))
    edit(directory, "config.json", model_type="vit")
    with pytest.raises(ModelError, match="type 'vit', not dinov2"):
        RadDino(str(directory))
