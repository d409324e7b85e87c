"""The training objective, pure: per-sample losses and the targets of each prediction type."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cxrguard.randomness import torch_generator


def add_noise(
    latents: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], alpha_bar: Float[Tensor, " b"]
) -> Float[Tensor, "b c h w"]:
    """x_t = √ᾱ_t x₀ + √(1 − ᾱ_t) ε (Ho et al. 2020, eq. 4)."""
    alpha = alpha_bar[:, None, None, None]
    return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise


def training_target(
    prediction_type: str, latents: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], alpha_bar: Float[Tensor, " b"]
) -> Float[Tensor, "b c h w"]:
    """ε for ``epsilon``; v = √ᾱ_t ε − √(1 − ᾱ_t) x₀ for ``v_prediction`` (Salimans and Ho 2022, section 4)."""
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        alpha = alpha_bar[:, None, None, None]
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
    raise ValueError(f"prediction_type must be 'epsilon' or 'v_prediction', not {prediction_type!r}")


def per_sample_loss(prediction: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Mean squared error of each sample, in float32."""
    return (prediction.float() - target.float()).square().mean(dim=(1, 2, 3))


def min_snr_weight(alpha_bar: Float[Tensor, " b"], gamma: float, prediction_type: str) -> Float[Tensor, " b"]:
    """Weight of each sample's loss: min(SNR, γ) / SNR for ``epsilon``, min(SNR, γ) / (SNR + 1) for ``v_prediction``.

    SNR = ᾱ / (1 − ᾱ) (Hang et al., ICCV 2023, section 3.4). Written without the division by SNR, which may be 0: 1/SNR is
    (1 − ᾱ)/ᾱ, and SNR + 1 is 1/(1 − ᾱ).
    """
    snr = alpha_bar / (1 - alpha_bar)
    if prediction_type == "v_prediction":
        return snr.clamp(max=gamma) * (1 - alpha_bar)
    return (gamma / snr).clamp(max=1.0)


def text_difference_norm(
    with_text: Float[Tensor, "b c h w"], without: Float[Tensor, "b c h w"], alpha_bar: Float[Tensor, " b"], prediction_type: str
) -> Float[Tensor, " b"]:
    """‖ε(x_t, c) − ε(x_t, ∅)‖₂ of each sample from two raw predictions, in float32.

    Of v-predictions it is √ᾱ_t times their difference's norm: ε = √ᾱ v + √(1 − ᾱ) x_t, and x_t is the same in both.
    """
    norms: Tensor = torch.linalg.vector_norm((with_text.float() - without.float()).flatten(1), dim=1)
    return norms * alpha_bar.sqrt() if prediction_type == "v_prediction" else norms


@dataclass(frozen=True)
class Draws:
    """What chance decides for a batch: ``noise [B, C, h, w]``, ``timesteps [B]``, ``drop [B]`` (caption dropped)."""

    noise: Tensor
    timesteps: Tensor
    drop: Tensor


def draw_batch(
    seed: int,
    epoch: int,
    sample_ids: Sequence[int],
    draws: Sequence[int],
    shape: tuple[int, int, int],
    n_timesteps: int,
    caption_dropout: float,
    offset_noise: float = 0.0,
) -> Draws:
    """Noise, timestep and caption dropout of each sample as a function of (seed, epoch, sample id, draw) alone.

    With ``offset_noise`` a channel's noise is shifted by one normal value of that standard deviation (Guttenberg 2023, "Diffusion
    with offset noise"), so that the mean brightness is learned too.
    """
    noise, timesteps, drop = [], [], []
    for sample_id, draw in zip(sample_ids, draws, strict=True):
        generator = torch_generator("train", seed, epoch, sample_id, draw)
        timesteps.append(torch.randint(n_timesteps, (), generator=generator))
        drop.append(torch.rand((), generator=generator) < caption_dropout)
        noise.append(torch.randn(shape, generator=generator))
        if offset_noise:
            noise[-1] = noise[-1] + offset_noise * torch.randn((shape[0], 1, 1), generator=generator)
    return Draws(torch.stack(noise), torch.stack(timesteps), torch.stack(drop))


def drop_captions(
    encoder_hidden_states: Float[Tensor, "b l d"], uncond_hidden_states: Float[Tensor, "1 l d"], drop: Tensor
) -> Float[Tensor, "b l d"]:
    """Replace the text of the samples in ``drop`` by the empty prompt's (classifier-free guidance, Ho and Salimans 2022)."""
    return torch.where(drop[:, None, None], uncond_hidden_states, encoder_hidden_states)


def gather_alpha_bar(alphas_cumprod: Float[Tensor, " t"], timesteps: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """ᾱ at each sample's timestep."""
    return alphas_cumprod.to(timesteps.device)[timesteps]


def rate_factor(step: int, warmup: int, decay: int) -> float:
    """Share of the peak learning rate at ``step``: linear up over ``warmup`` steps, times a cosine to 0 at ``decay``.

    ``decay`` 0 leaves the rate constant after the warm-up (Loshchilov and Hutter 2017, eq. 5, without restarts).
    """
    up = min(1.0, (step + 1) / max(warmup, 1))
    return up if not decay else up * 0.5 * (1 + math.cos(math.pi * min(step / decay, 1.0)))
