"""Paths of a user's machine do not reach the audit or W&B."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxrguard.audit.finish import model_name, without_paths


def test_paths_are_replaced_wherever_they_stand() -> None:
    config = {
        "data": {"path": "/data/smith_j.csv", "root": "../shared/x", "batch_size": 16},
        "model": {"source": "stabilityai/stable-diffusion-2-1"},
        "overrides": ["data.path=/data/smith_j.csv", "experiment=demo", "data.root=~/films"],
    }
    assert without_paths(config) == {
        "data": {"path": "<path>", "root": "<path>", "batch_size": 16},
        "model": {"source": "stabilityai/stable-diffusion-2-1"},
        "overrides": ["data.path=<path>", "experiment=demo", "data.root=<path>"],
    }


def test_parts_of_a_model_are_named_without_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "smith_j").mkdir()
    (tmp_path / "smith_j" / "unet").mkdir()
    monkeypatch.chdir(tmp_path)
    source = {
        "unet": "/data/smith_j::unet",
        "vae": "stabilityai/sdxl-vae",
        "text_encoder": "smith_j/unet::text",
        "tokenizer": None,
        "scheduler": {"beta_schedule": "linear"},
        "trust_remote_code": False,
    }
    assert model_name(source) == "unet <path>, vae stabilityai/sdxl-vae, text_encoder <path>"
    assert model_name("packaged:tiny") == "packaged:tiny" and model_name("/data/smith_j") == "<path>"


@pytest.mark.parametrize(
    "override",
    ["model.source={unet:/data/smith_j,vae:x}", "data.path=/data/smith_j=1.csv", "+x=[/data/smith_j]", "a.b=~/smith_j/c=d/e"],
)
def test_no_part_of_an_overrides_path_is_left(override: str) -> None:
    assert without_paths(override) == override.partition("=")[0] + "=<path>"
