"""A pipeline from parts in places of their own: what is loaded, what is refused, and that plain diffusers loads the export."""

from __future__ import annotations

import logging
import pickle
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from tiny_parts import edit_json, refusal, save_text, save_unet, save_vae, wordpiece
from transformers import BertForMaskedLM

from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.diffusion.encoding import decode_latents, encode_images, encode_prompts, tokenize
from cxrguard.diffusion.export import build_pipeline, export_pipeline
from cxrguard.diffusion.loading import PipelineParts, load_pipeline
from cxrguard.diffusion.sampling import Sampler

PROMPTS = ["PA view. Moderate left pleural effusion.", "AP view. No pneumothorax."]


def pixels() -> torch.Tensor:
    return torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1) * 2 - 1


# what is loaded


def test_the_parts_are_those_on_disk(assembled: PipelineParts, source: dict[str, Any]) -> None:
    assert assembled.prediction_type == "epsilon" and assembled.scheduler.config["beta_schedule"] == "linear"
    betas = torch.linspace(0.0001, 0.02, 1000, dtype=torch.float32)
    assert torch.allclose(assembled.alphas_cumprod, (1 - betas).cumprod(0))
    ids = tokenize(assembled.tokenizer, PROMPTS)
    assert ids.shape == (2, 128) and assembled.tokenizer.unk_token_id not in ids
    whole = BertForMaskedLM.from_pretrained(source["text_encoder"]).eval()
    with torch.no_grad():
        states = whole(ids, output_hidden_states=True).hidden_states[-1]
    assert torch.allclose(encode_prompts(assembled, PROMPTS), states, atol=1e-6)
    assert not any(part.training for part in (assembled.unet, assembled.vae, assembled.text_encoder))


def test_the_poolers_weights_are_not_drawn_at_random(assembled: PipelineParts, source: dict[str, Any]) -> None:
    for parts in (assembled, load_pipeline(source)):
        pooler = {name: value for name, value in parts.text_encoder.state_dict().items() if "pooler" in name}
        assert len(pooler) == 2 and not any(value.any() for value in pooler.values())


def test_latents_are_scaled_as_the_vae_says(assembled: PipelineParts) -> None:
    latents = encode_images(assembled, pixels())
    with torch.no_grad():
        raw = assembled.vae.encode(pixels()).latent_dist.mode()
    assert torch.allclose(latents, raw * 0.13025) and latents.shape == (2, 4, 8, 8)
    with torch.no_grad():
        again = assembled.vae.decode(raw).sample.clamp(-1, 1).mean(1, keepdim=True)
    assert torch.allclose(decode_latents(assembled, latents), again, atol=1e-5)


@pytest.mark.parametrize(("blocks", "side"), [(4, 64), (3, 32)])
def test_the_image_size_follows_from_unet_and_vae(source: dict[str, Any], tmp_path: Path, blocks: int, side: int) -> None:
    parts = load_pipeline(source | {"vae": save_vae(tmp_path / "other_vae", blocks=blocks)})
    assert parts.image_size == side
    assert decode_latents(parts, torch.zeros(1, 4, 8, 8)).shape == (1, 1, side, side)
    parts.unet.register_to_config(sample_size=[8, 8])
    assert parts.image_size == side
    parts.unet.register_to_config(sample_size=[8, 4])
    assert parts.image_size is None


def test_a_scheduler_of_a_directory(source: dict[str, Any], pipeline_dir: Path) -> None:
    parts = load_pipeline(source | {"scheduler": f"{pipeline_dir}::scheduler"})
    assert torch.equal(parts.alphas_cumprod, load_pipeline(str(pipeline_dir)).alphas_cumprod)


def test_parts_of_a_pipeline_directory(source: dict[str, Any], v_pipeline_dir: Path) -> None:
    whole = load_pipeline(str(v_pipeline_dir))
    names = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    parts = load_pipeline({name: f"{v_pipeline_dir}::{name}" for name in names})
    assert parts.prediction_type == "v_prediction" and parts.tokenizer.model_max_length == 128
    assert torch.equal(encode_prompts(parts, PROMPTS), encode_prompts(whole, PROMPTS))


def test_of_a_hub_repository_only_the_parts_files_are_fetched(
    source: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, list[str]] = {}

    def fetch(name: str, allow_patterns: list[str]) -> str:
        asked[name] = allow_patterns
        return str(tmp_path / name.partition("/")[2])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    load_pipeline(source | {"unet": "microsoft/radedit::unet", "vae": "stabilityai/vae", "text_encoder": "microsoft/text"})
    assert all(pattern.startswith("unet/") for pattern in asked["microsoft/radedit"])
    assert not [p for patterns in asked.values() for p in patterns if p.endswith((".py", ".bin", "/*"))]


# the export


@pytest.mark.parametrize("loader", [DiffusionPipeline, StableDiffusionPipeline])
def test_plain_diffusers_makes_the_same_image_from_the_export(
    assembled: PipelineParts, tmp_path: Path, loader: Any, caplog: pytest.LogCaptureFixture
) -> None:
    export_pipeline(assembled, tmp_path / "out")
    with caplog.at_level(logging.WARNING, logger="transformers"):
        pipe = loader.from_pretrained(tmp_path / "out")
    assert "pooler" not in caplog.text and "initialized" not in caplog.text
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    arguments = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "pt"}
    images = []
    for each in (pipe, build_pipeline(assembled)):
        each.set_progress_bar_config(disable=True)
        images.append(each(PROMPTS, latents=noise.clone(), **arguments).images)
    assert torch.equal(*images) and images[0].std() > 0.01
    denoiser = UNetDenoiser(assembled.unet, assembled.alphas_cumprod, assembled.prediction_type)
    sampler = Sampler(assembled.scheduler.config, 4, 3.0)
    ours = decode_latents(assembled, sampler(denoiser, encode_prompts(assembled, PROMPTS), encode_prompts(assembled, [""]), noise))
    assert torch.allclose(ours, images[0].mean(1, keepdim=True) * 2 - 1, atol=1e-4)


def test_the_export_loads_as_a_pipeline_and_names_no_path(assembled: PipelineParts, tmp_path: Path) -> None:
    export_pipeline(assembled, tmp_path / "out")
    again = load_pipeline(str(tmp_path / "out"))
    for name in ("unet", "vae", "text_encoder"):
        old, new = getattr(assembled, name).state_dict(), getattr(again, name).state_dict()
        assert old.keys() == new.keys() and all(torch.equal(old[k], new[k]) for k in old)
    assert torch.equal(tokenize(again.tokenizer, PROMPTS), tokenize(assembled.tokenizer, PROMPTS))
    written = [path for path in (tmp_path / "out").rglob("*.json") if str(tmp_path) in path.read_text()]
    assert written == []


# what is refused


class Boom:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("part", ["radedit/unet", "vae", "text"])
@pytest.mark.parametrize("pickled", [True, False])
def test_pickled_weights_are_refused_and_never_opened(source: dict[str, Any], tmp_path: Path, part: str, pickled: bool) -> None:
    weights = next((tmp_path / part).glob("*.safetensors"))
    weights.unlink()
    if pickled:
        weights.with_suffix(".bin").write_bytes(pickle.dumps(Boom(tmp_path / "ran")))
    message = refusal(source)
    assert "pickled" in message and "never loaded" in message and part in message
    assert not (tmp_path / "ran").exists()


def test_a_vae_of_other_channels(source: dict[str, Any], tmp_path: Path) -> None:
    message = refusal(source | {"vae": save_vae(tmp_path / "other", channels=8)})
    assert "UNet takes latents of 4 channels, the VAE makes 8" in message and "set model.source.vae" in message


def test_a_text_encoder_of_another_width(source: dict[str, Any], tmp_path: Path) -> None:
    message = refusal(source | {"text_encoder": save_text(tmp_path / "other", width=16)})
    assert "states of size 16" in message and "attends to 32" in message and "set model.source.text_encoder" in message


def test_a_head_that_gives_no_states(source: dict[str, Any]) -> None:
    message = refusal(source | {"text_encoder_class": "BertForMaskedLM"})
    assert f"states of size {len(wordpiece())}" in message and "text_encoder_class" in message


def test_weights_that_are_not_the_configs(source: dict[str, Any], tmp_path: Path) -> None:
    """diffusers would load them with a warning, and the UNet would be random in part."""
    edit_json(tmp_path / "vae" / "config.json", lambda c: c.update(layers_per_block=2))
    message = refusal(source)
    assert "do not fit" in message and "are missing" in message and "model.source.vae" in message


def test_text_weights_that_are_not_the_configs(source: dict[str, Any], tmp_path: Path) -> None:
    edit_json(tmp_path / "text" / "config.json", lambda c: c.update(num_hidden_layers=3))
    message = refusal(source)
    assert "weights of BertModel are missing" in message and "layer.2" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unett": "x"}, ["model.source.unett", "unet is meant"]),
        ({"vae": None}, ["model.source.vae is not set"]),
        ({"unet": "/nowhere"}, ["/nowhere", "no such directory", "model.source.unet"]),
        ({"trust_remote_code": "yes"}, ["trust_remote_code='yes'", "true or false"]),
        ({"max_length": 128.5}, ["max_length=128.5", "whole number"]),
        ({"max_length": 512}, ["512", "takes 160", "model.source.max_length"]),
        ({"max_length": None}, ["no particular length", "model.source.max_length", "128"]),
        ({"text_encoder_class": "NoSuchModel"}, ["NoSuchModel", "BertModel"]),
        ({"scheduler": {"beta_shedule": "linear"}}, ["model.source.scheduler.beta_shedule", "beta_schedule"]),
        ({"scheduler": {"beta_schedule": "linera"}}, ["model.source.scheduler", "linera"]),
        ({"scheduler": {"prediction_type": "sample"}}, ["prediction type 'sample'"]),
    ],
)
def test_settings_that_mean_nothing(source: dict[str, Any], change: dict[str, Any], words: list[str]) -> None:
    message = refusal(source | change)
    assert all(word in message for word in words), message


def test_a_subfolder_that_is_not_there(source: dict[str, Any], tmp_path: Path) -> None:
    message = refusal(source | {"unet": f"{tmp_path / 'radedit'}::unett"})
    assert str(tmp_path / "radedit" / "unett") in message and "model.source.unet" in message


def test_a_part_in_anothers_place(source: dict[str, Any]) -> None:
    message = refusal(source | {"unet": source["vae"]})
    assert "UNet2DConditionModel, not AutoencoderKL" in message


def test_an_sdxl_unet(source: dict[str, Any], tmp_path: Path) -> None:
    message = refusal(source | {"unet": save_unet(tmp_path / "sdxl", class_embed_type="identity")})
    assert "class_embed_type" in message and "model.source.unet" in message


def test_a_unet_without_a_size(source: dict[str, Any], tmp_path: Path) -> None:
    assert "sample_size" in refusal(source | {"unet": save_unet(tmp_path / "sizeless", sample_size=None)})


def test_a_tokenizer_without_its_words(source: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "text" / "vocab.txt").unlink()
    assert "model.source.tokenizer" in refusal(source)


def test_a_tokenizer_of_another_encoder(source: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(source["text_encoder"], tmp_path / "words")
    with (tmp_path / "words" / "vocab.txt").open("a") as file:
        file.write("extra\nwords\n")
    message = refusal(source | {"tokenizer": str(tmp_path / "words")})
    n = len(wordpiece())
    assert f"{n + 2} tokens, the text encoder {n}" in message and "model.source.tokenizer" in message
