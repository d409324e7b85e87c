"""What the text does to the predicted noise, Δε = ε(x_t, c) − ε(x_t, ∅), and its size a sample."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser

_TINY = torch.finfo(torch.float32).tiny


def text_effect(
    denoiser: Denoiser,
    latents: Float[Tensor, "n c h w"],
    timestep: int,
    encoder_hidden_states: Float[Tensor, "n l d"],
    uncond_hidden_states: Float[Tensor, "1 l d"],
) -> Float[Tensor, "n c h w"]:
    """Δε at ``timestep``; two UNet evaluations a sample."""
    timesteps = torch.full((len(latents),), timestep, device=latents.device)
    text, uncond = denoiser.predict_noise_pair(latents, timesteps, encoder_hidden_states, uncond_hidden_states)
    return text - uncond


def per_sample_norm(values: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """‖·‖₂ of each sample, in float32."""
    norms: Tensor = torch.linalg.vector_norm(values.float().flatten(1), dim=1)
    return norms


def per_sample_unit(values: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Each sample divided by its norm; a sample that is zero stays zero."""
    return values / per_sample_norm(values).clamp_min(_TINY)[:, None, None, None]
