"""A UNet of the smallest size that diffusers makes."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel


def tiny_unet(channels: int, *, width: int = 16, text_width: int = 16) -> Any:
    """Weights as diffusers draws them, from the global generator."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(width, width),
        layers_per_block=1,
        cross_attention_dim=text_width,
        attention_head_dim=2,
        norm_num_groups=width // 2,
    )


def random_unet(seed: int, channels: int, **sizes: int) -> Any:
    """Random weights of a private generator, none of them zero."""
    with torch.random.fork_rng():
        unet = tiny_unet(channels, **sizes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in unet.named_parameters():
            drawn = torch.randn(p.shape, generator=generator)
            p.copy_(drawn / p[0].numel() ** 0.5 if p.dim() > 1 else 0.1 * drawn + ("norm" in name and name.endswith("weight")))
    return unet.eval()
