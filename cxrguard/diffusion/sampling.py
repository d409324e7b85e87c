"""Deterministic guided sampling (DDIM, trailing spacing), the same that the exported pipeline performs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.diffusion.loading import above_zero


def ddim_scheduler(config: Any, steps: int, device: torch.device | str = "cpu") -> DDIMScheduler:
    """A DDIM schedule with trailing spacing: the first step is at the noisiest timestep, whatever the pipeline's own.

    With leading spacing a one-step schedule starts at t = 1, where the score is noise (DESIGN, section 5).
    """
    scheduler = DDIMScheduler.from_config(config, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=False)
    scheduler.set_timesteps(steps, device=device)
    return above_zero(scheduler)


@dataclass(frozen=True)
class Sampler:
    """How images are generated in the whole run: fixed, so that extraction rates compare.

    Args:
        scheduler_config: config of the training schedule.
        steps: DDIM steps.
        guidance_scale: classifier-free guidance.
        batch_size: samples at once.

    """

    scheduler_config: Any
    steps: int = 20
    guidance_scale: float = 3.0
    batch_size: int = 64

    @torch.no_grad()
    def __call__(
        self,
        denoiser: Denoiser,
        encoder_hidden_states: Float[Tensor, "n l d"],
        uncond_hidden_states: Float[Tensor, "1 l d"],
        noise: Float[Tensor, "n c h w"],
        on_batch: Callable[[int], None] | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Generate latents (scaled, as the UNet sees them) from ``noise``; ``on_batch`` hears how many are done."""
        parts = []
        for states, start in zip(encoder_hidden_states.split(self.batch_size), noise.split(self.batch_size), strict=True):
            parts.append(self._run(denoiser, states, uncond_hidden_states, start))
            if on_batch:
                on_batch(len(start))
        return torch.cat(parts) if parts else noise

    def _run(self, denoiser: Denoiser, states: Tensor, uncond: Tensor, noise: Tensor) -> Tensor:
        scheduler = ddim_scheduler(self.scheduler_config, self.steps, noise.device)
        trajectory = guided_trajectory(denoiser, scheduler, states, uncond, noise, self.guidance_scale)
        latents = noise
        for step in trajectory:
            latents = step[2]
        return latents


def guided_trajectory(
    denoiser: Denoiser,
    scheduler: DDIMScheduler,
    encoder_hidden_states: Float[Tensor, "n l d"],
    uncond_hidden_states: Float[Tensor, "1 l d"],
    latents: Float[Tensor, "n c h w"],
    guidance_scale: float,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (ε_text, ε_uncond, x_{t-1}) for each timestep of ``scheduler``, guided as ε_∅ + s (ε_text − ε_∅)."""
    # From here on the denoiser speaks noise, whatever it was trained to predict.
    scheduler.register_to_config(prediction_type="epsilon")
    for t in scheduler.timesteps:
        timesteps = t.expand(len(latents)).to(latents.device)
        noise_pred_text, noise_pred_uncond = denoiser.predict_noise_pair(latents, timesteps, encoder_hidden_states, uncond_hidden_states)
        guided = noise_pred_uncond + guidance_scale * (noise_pred_text - noise_pred_uncond)
        latents = scheduler.step(guided, t, latents, return_dict=False)[0]
        yield noise_pred_text, noise_pred_uncond, latents
