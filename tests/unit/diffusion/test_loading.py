"""What is loaded, and what is refused before anything of it runs."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from tiny_parts import edit_json

import cxrguard.diffusion.loading as loading
from cxrguard.diffusion.loading import load_pipeline
from cxrguard.errors import ModelError


class Boom:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


@pytest.fixture
def directory(pipeline_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pipeline_dir, tmp_path / "pipe"))


def refusal(source: Path | str) -> str:
    with pytest.raises(ModelError) as caught:
        load_pipeline(str(source))
    return str(caught.value)


def states(parts: loading.PipelineParts) -> dict[str, torch.Tensor]:
    return {f"{n}.{k}": v for n in ("unet", "vae", "text_encoder") for k, v in getattr(parts, n).state_dict().items()}


def test_a_directory_loads_in_float32(parts: loading.PipelineParts) -> None:
    assert all(x.dtype == torch.float32 for x in states(parts).values() if x.is_floating_point())
    assert parts.alphas_cumprod.shape == (1000,) and parts.alphas_cumprod[0] > 0.999 > 0.01 > parts.alphas_cumprod[-1] > 0


def test_half_precision_weights_become_float32(directory: Path) -> None:
    half = load_pipeline(str(directory))
    half.unet.half().save_pretrained(directory / "unet", safe_serialization=True)
    assert {x.dtype for x in load_pipeline(str(directory)).unet.state_dict().values()} == {torch.float32}


def test_packaged_and_local_go_the_same_way(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "PACKAGED", directory.parent)
    local, packaged = load_pipeline(str(directory)), load_pipeline("packaged:pipe")
    assert states(local).keys() == states(packaged).keys()
    assert all(torch.equal(x, states(packaged)[k]) for k, x in states(local).items())
    assert local.scheduler.config == packaged.scheduler.config
    assert "model_index.json" in refusal("packaged:none-of-that-name")
    (directory / "evil.py").write_text("")
    assert "custom code" in refusal("packaged:pipe")


def test_hub_names_go_the_same_way(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **kw: asked.append((name, kw["allow_patterns"])) or str(directory)
    )
    assert load_pipeline("some/model").prediction_type == "epsilon"
    assert asked[0][0] == "some/model" and not [p for p in asked[0][1] if p.endswith((".py", ".bin", "*"))]
    (directory / "unet" / "evil.py").write_text("")
    assert "custom code (unet/evil.py)" in refusal("some/model")


def test_a_hub_name_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise ConnectionError("secret token")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    message = refusal("some/model")
    assert "ConnectionError" in message and "model.source" in message and "secret" not in message


@pytest.mark.parametrize("source", ["/nowhere/pipe", "nowhere", "./some/model", "a/b/c", "~/nowhere/pipe"])
def test_a_missing_directory(source: str) -> None:
    message = refusal(source)
    assert "no such directory" in message and "model.source" in message


def test_no_model_index(directory: Path) -> None:
    (directory / "model_index.json").unlink()
    assert "no model_index.json" in refusal(directory)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_broken_model_index(directory: Path, content: bytes) -> None:
    (directory / "model_index.json").write_bytes(content)
    assert "not readable as JSON" in refusal(directory)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("suffix", [".bin", ".ckpt", ".pt"])
def test_pickled_weights_alone_are_refused_and_never_opened(directory: Path, part: str, suffix: str) -> None:
    weights = next((directory / part).glob("*.safetensors"))
    weights.unlink()
    weights.with_suffix(suffix).write_bytes(pickle.dumps(Boom(directory / "ran")))
    message = refusal(directory)
    assert "pickled weights are never loaded" in message and "safe_serialization" in message and part in message
    assert not (directory / "ran").exists()


def test_safetensors_beside_a_pickle_load_and_the_pickle_is_not_opened(directory: Path) -> None:
    for part, name in (("unet", "diffusion_pytorch_model.bin"), ("text_encoder", "pytorch_model.bin")):
        (directory / part / name).write_bytes(pickle.dumps(Boom(directory / "ran")))
    load_pipeline(str(directory))
    assert not (directory / "ran").exists()


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_safetensors_file_of_another_name_does_not_let_a_pickle_in(directory: Path, part: str) -> None:
    weights = next((directory / part).glob("*.safetensors"))
    weights.rename(directory / part / "decoy.safetensors")
    name = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
    (directory / part / name).write_bytes(pickle.dumps(Boom(directory / "ran")))
    refusal(directory)
    assert not (directory / "ran").exists()


@pytest.mark.parametrize("place", ["pipeline.py", "unet/modeling.py", "deep/down/in/it.py"])
def test_custom_code_is_refused(directory: Path, place: str) -> None:
    (directory / place).parent.mkdir(parents=True, exist_ok=True)
    (directory / place).write_text("raise SystemExit")
    assert f"custom code ({place})" in refusal(directory)


@pytest.mark.parametrize("config", ["text_encoder/config.json", "tokenizer/tokenizer_config.json", "unet/config.json"])
def test_auto_map_is_refused(directory: Path, config: str) -> None:
    edit_json(directory / config, lambda c: c.update(auto_map={"AutoModel": "modeling.Evil"}))
    message = refusal(directory)
    assert "auto_map" in message and config.split("/")[0] in message


@pytest.mark.parametrize("entry", [["os", "system"], ["evil_package", "Model"], ["pipeline", "Evil"]])
@pytest.mark.parametrize("name", ["unet", "extra", "_class_name"])
def test_foreign_libraries_are_refused(directory: Path, name: str, entry: list[str]) -> None:
    edit_json(directory / "model_index.json", lambda c: c.update({name: entry}))
    message = refusal(directory)
    assert repr(name) in message and entry[0] in message and "diffusers and transformers" in message


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_part_whose_files_are_gone(directory: Path, part: str) -> None:
    shutil.rmtree(directory / part)
    assert f"{part}: this part of the pipeline is missing" in refusal(directory)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_part_that_is_empty(directory: Path, part: str) -> None:
    shutil.rmtree(directory / part)
    (directory / part).mkdir()
    refusal(directory)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_cut_short(directory: Path, part: str) -> None:
    weights = next((directory / part).glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:200])
    refusal(directory)


def test_an_unknown_class(directory: Path) -> None:
    edit_json(directory / "model_index.json", lambda c: c.update(unet=["diffusers", "NoSuchModel"]))
    refusal(directory)


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer"])
def test_a_pipeline_without_text(directory: Path, part: str) -> None:
    edit_json(directory / "model_index.json", lambda c: c.update({part: [None, None]}))
    assert part in refusal(directory)


def test_unsupported_prediction_types(directory: Path) -> None:
    edit_json(directory / "scheduler" / "scheduler_config.json", lambda c: c.update(prediction_type="sample"))
    assert "prediction type 'sample'" in refusal(directory)


def test_zero_terminal_snr_needs_v_prediction(directory: Path) -> None:
    edit_json(directory / "scheduler" / "scheduler_config.json", lambda c: c.update(rescale_betas_zero_snr=True))
    assert "zero terminal SNR" in refusal(directory) and "needs v_prediction" in refusal(directory)
    edit_json(directory / "scheduler" / "scheduler_config.json", lambda c: c.update(prediction_type="v_prediction"))
    assert float(load_pipeline(str(directory)).alphas_cumprod[-1]) == 2.0**-24


def test_another_schedule_can_be_asked_for(directory: Path) -> None:
    plain = load_pipeline(str(directory))
    same = load_pipeline(str(directory), schedule={"prediction_type": None, "rescale_betas_zero_snr": None})
    assert same.scheduler.config == plain.scheduler.config
    other = load_pipeline(str(directory), schedule={"prediction_type": "v_prediction", "rescale_betas_zero_snr": True})
    assert other.prediction_type == "v_prediction" and float(other.alphas_cumprod[-1]) == 2.0**-24
    # Lin et al., algorithm 1, naively: the square roots shifted to end at 0 and scaled to begin where they did
    roots = [float(a) ** 0.5 for a in plain.alphas_cumprod.double()]
    scaled = [((r - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2 for r in roots]
    assert other.alphas_cumprod[:-1].tolist() == pytest.approx(scaled[:-1], rel=1e-3, abs=1e-7)
    with pytest.raises(ModelError, match=r"model.schedule: prediction type 'sample' is not supported"):
        load_pipeline(str(directory), schedule={"prediction_type": "sample"})
