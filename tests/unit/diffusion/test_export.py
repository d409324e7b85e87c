"""What plain diffusers generates from the exported directory is what the run's sampler generates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline

from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.diffusion.encoding import decode_latents, encode_prompts
from cxrguard.diffusion.export import export_pipeline
from cxrguard.diffusion.loading import PipelineParts, load_pipeline
from cxrguard.diffusion.sampling import Sampler

PROMPTS = ["PA view. Moderate left pleural effusion.", "AP view. No pneumothorax."]
STEPS, GUIDANCE = 7, 3.0


@pytest.fixture
def exported(parts: PipelineParts, tmp_path: Path) -> Path:
    export_pipeline(parts, tmp_path / "pipeline")
    return tmp_path / "pipeline"


def test_diffusers_generates_the_same_images(parts: PipelineParts, exported: Path) -> None:
    noise = torch.randn(2, parts.unet.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    denoiser = UNetDenoiser(parts.unet.eval(), parts.alphas_cumprod, parts.prediction_type)
    sampler = Sampler(parts.scheduler.config, STEPS, GUIDANCE)
    latents = sampler(denoiser, encode_prompts(parts, PROMPTS), encode_prompts(parts, [""]), noise)
    ours = decode_latents(parts, latents)
    pipe = DiffusionPipeline.from_pretrained(exported)
    pipe.set_progress_bar_config(disable=True)
    arguments = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "latents": noise.clone()}
    theirs = pipe(PROMPTS, output_type="pt", **arguments).images.mean(1, keepdim=True) * 2 - 1
    assert torch.allclose(pipe(PROMPTS, output_type="latent", **arguments).images, latents, atol=1e-3)
    assert torch.allclose(ours, theirs, atol=1e-3)
    assert (ours[0] - ours[1]).abs().max() > 1e-2  # the comparison is not of constants


def test_zero_terminal_snr_generates_the_same_images(v_pipeline_dir: Path, tmp_path: Path) -> None:
    parts = load_pipeline(str(v_pipeline_dir), schedule={"rescale_betas_zero_snr": True})
    export_pipeline(parts, tmp_path / "pipeline")
    test_diffusers_generates_the_same_images(parts, tmp_path / "pipeline")
    assert load_pipeline(str(tmp_path / "pipeline")).scheduler.config["rescale_betas_zero_snr"] is True


def test_exported_directory_is_safetensors_only_and_loads_again(parts: PipelineParts, exported: Path) -> None:
    names = {p.name for p in exported.rglob("*") if p.is_file()}
    assert not [n for n in names if n.endswith((".bin", ".pt", ".ckpt", ".py"))]
    assert json.loads((exported / "model_index.json").read_text())["_class_name"] == "StableDiffusionPipeline"
    scheduler = json.loads((exported / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["timestep_spacing"] == "trailing" and scheduler["prediction_type"] == parts.prediction_type
    again = load_pipeline(str(exported))
    assert again.prediction_type == parts.prediction_type and torch.equal(again.alphas_cumprod, parts.alphas_cumprod)
    for name in ("unet", "vae", "text_encoder"):
        old, new = getattr(parts, name).state_dict(), getattr(again, name).state_dict()
        assert old.keys() == new.keys() and all(torch.equal(old[k], new[k]) for k in old)
    assert torch.equal(encode_prompts(again, PROMPTS), encode_prompts(parts, PROMPTS))
