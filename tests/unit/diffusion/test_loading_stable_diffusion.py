"""Directories laid out as Stable Diffusion's load without their safety checker; other families are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cxrguard.diffusion.loading import load_pipeline
from cxrguard.errors import ModelError


def copy_of(pipeline_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pipeline_dir, tmp_path / "pipe"))


def test_a_safety_checker_is_left_out(pipeline_dir: Path, tmp_path: Path) -> None:
    directory = copy_of(pipeline_dir, tmp_path)
    index = json.loads((directory / "model_index.json").read_text())
    index |= {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "requires_safety_checker": True}
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (directory / "model_index.json").write_text(json.dumps(index))
    assert load_pipeline(str(directory)).unet is not None


def test_an_inpainting_unet_is_refused(pipeline_dir: Path, tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    directory = copy_of(pipeline_dir, tmp_path)
    config = dict(UNet2DConditionModel.load_config(directory / "unet"))
    shutil.rmtree(directory / "unet")
    UNet2DConditionModel.from_config(config | {"in_channels": 9}).save_pretrained(directory / "unet")
    with pytest.raises(ModelError, match="9 channels for 4"):
        load_pipeline(str(directory))
