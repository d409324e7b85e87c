"""Write the judged weights as a diffusers pipeline directory that plain diffusers loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler, StableDiffusionPipeline

from cxrguard.diffusion.loading import PipelineParts


def build_pipeline(parts: PipelineParts) -> StableDiffusionPipeline:
    """The pipeline with the sampler of the run: DDIM with trailing spacing."""
    scheduler = DDIMScheduler.from_config(parts.scheduler.config, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=False)
    return StableDiffusionPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=parts.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export_pipeline(parts: PipelineParts, directory: Path, *, variant: Any = None) -> None:
    """Save as safetensors; the caller has put the judged weights into ``parts.unet``."""
    build_pipeline(parts).save_pretrained(directory, safe_serialization=True, variant=variant)
