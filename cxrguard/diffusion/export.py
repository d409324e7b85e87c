"""Write the judged weights as a diffusers pipeline directory that plain diffusers loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler, StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import get_peft_model_state_dict

from cxrguard.diffusion.loading import PipelineParts
from cxrguard.diffusion.trainable import has_adapter, merged


def build_pipeline(parts: PipelineParts) -> StableDiffusionPipeline:
    """The pipeline with the sampler of the run, DDIM with trailing spacing; adapters are added into the weights."""
    scheduler = DDIMScheduler.from_config(parts.scheduler.config, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=False)
    return StableDiffusionPipeline(
        vae=parts.vae,
        text_encoder=merged(parts.text_encoder),
        tokenizer=parts.tokenizer,
        unet=merged(parts.unet),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export_pipeline(parts: PipelineParts, directory: Path, *, variant: Any = None) -> None:
    """Save as safetensors; the caller has put the judged weights into ``parts.unet``."""
    build_pipeline(parts).save_pretrained(directory, safe_serialization=True, variant=variant)


def export_adapters(parts: PipelineParts, directory: Path) -> bool:
    """Save low-rank adapters as ``pytorch_lora_weights.safetensors``, which ``pipe.load_lora_weights`` of diffusers takes.

    Returns:
        Whether there were any.

    """
    adapted = {name: model for name, model in (("unet", parts.unet), ("text_encoder", parts.text_encoder)) if has_adapter(model)}
    if not adapted:
        return False
    weights = {f"{name}_lora_layers": convert_state_dict_to_diffusers(get_peft_model_state_dict(model)) for name, model in adapted.items()}
    # Without its rank and alpha an adapter would be scaled by 1.
    settings = {f"{name}_lora_adapter_metadata": model.peft_config["default"].to_dict() for name, model in adapted.items()}
    StableDiffusionPipeline.save_lora_weights(directory, safe_serialization=True, **weights, **settings)
    return True
