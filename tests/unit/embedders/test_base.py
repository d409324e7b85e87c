"""What all embedders share, and whether every configured one can be built from its config."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import get_class, get_method, instantiate
from torch import Tensor

from cxrguard.embedders.base import FrozenEmbedder, cosine_similarity, resized, standardized
from cxrguard.embedders.weights import load_state, model_directory, read_config
from cxrguard.errors import ModelError

CONF = Path(__file__).parents[3] / "conf" / "embedder"


class Corner(FrozenEmbedder):
    """The first pixels."""

    name = "corner"

    def _embed(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, :3]


def test_batches_change_nothing(images: Tensor) -> None:
    whole = Corner(batch_size=8)(images)
    assert torch.equal(Corner(batch_size=1)(images), whole) and whole.shape == (3, 3)
    corner = Corner()
    assert corner.fit(images) is corner


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (torch.zeros(1, 1, 4, 4, dtype=torch.uint8), TypeError, "uint8"),
        (torch.zeros(1, 3, 4, 4), ValueError, r"\[1, 3, 4, 4\]"),
        (torch.zeros(0, 1, 4, 4), ValueError, "at least 1"),
        (torch.full((1, 1, 4, 4), 255.0), ValueError, "lie in"),
        (torch.full((1, 1, 4, 4), math.nan), ValueError, "not finite"),
    ],
)
def test_images_of_another_kind_are_refused(given: Tensor, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Corner()(given)
    with pytest.raises(ValueError, match="batch_size"):
        Corner(batch_size=0)


def test_cosine_against_loops() -> None:
    a, b = torch.randn(3, 5), torch.randn(4, 5)
    for i, x in enumerate(a.tolist()):
        for j, y in enumerate(b.tolist()):
            want = sum(p * q for p, q in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)
            assert float(cosine_similarity(a, b)[i, j]) == pytest.approx(want, rel=1e-4, abs=1e-6)
    assert cosine_similarity(torch.zeros(1, 5), b).tolist() == [[0, 0, 0, 0]]


def test_preprocessing(images: Tensor) -> None:
    assert torch.equal(resized(images, 40), images)
    assert resized(images, 21, "bicubic").shape == (3, 1, 21, 21) and resized(images, 90, "bicubic").abs().max() <= 1
    three = standardized(images, [0.1, 0.2, 0.3], [1.0, 2.0, 4.0])
    assert three[1, 2, 5, 6].item() == pytest.approx(((images[1, 0, 5, 6].item() + 1) / 2 - 0.3) / 4, rel=1e-5)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_configs_name_what_exists(path: Path) -> None:
    """A missing file is one clear error with the remedy, and never a download of code."""
    config = yaml.safe_load(path.read_text())
    if path.stem == "none":
        assert get_method(config["_target_"]) and instantiate(config) is None
        return
    assert get_class(config["_target_"]).name == path.stem
    filled = {k: "/nowhere/at/all" if v == "???" else v for k, v in config.items()}
    if filled != config:
        with pytest.raises(Exception, match="no such (file|directory)") as caught:
            instantiate(filled)
        assert isinstance(caught.value.__cause__ or caught.value, ModelError) and "embedder." in str(caught.value)


class Code:
    """A pickle that would run this."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran"),)


def test_pickled_code_is_refused_and_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Code()}, "evil.pth")
    with pytest.raises(ModelError, match="pickled code is never run. Get it elsewhere."):
        load_state("evil.pth", "any", "Get it elsewhere.")
    assert not Path("ran").exists()


def test_state_is_unwrapped(tmp_path: Path) -> None:
    torch.save({"state_dict": {"module.a": torch.ones(2)}, "epoch": 3}, tmp_path / "a.pth")
    assert list(load_state(tmp_path / "a.pth", "any", "")) == ["a"]
    torch.save({"a": 3}, tmp_path / "b.pth")
    with pytest.raises(ModelError, match="no state dict"):
        load_state(tmp_path / "b.pth", "any", "")


def test_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model_directory(str(tmp_path), "any", "") == tmp_path
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: (_ for _ in ()).throw(OSError("offline")))
    with pytest.raises(ModelError, match=r"hub did not give it \(OSError\). Download it."):
        model_directory("some/name", "any", "Download it.")
    (tmp_path / "c.json").write_text("[1]")
    for name in ("c.json", "d.json"):
        with pytest.raises(ModelError, match=name):
            read_config(tmp_path, name, "")
