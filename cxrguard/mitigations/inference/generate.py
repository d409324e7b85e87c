"""Generates under a mitigation: the sampler's own DDIM trajectory, with what the mitigation changes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.diffusion.sampling import ddim_scheduler
from cxrguard.diffusion.text_effect import per_sample_norm
from cxrguard.mitigations.inference.base import Guidance, InferenceMitigation, Start


@dataclass(frozen=True)
class Generated:
    """Samples.

    Attributes:
        latents: scaled, as the UNet sees them, ``[N, C, h, w]``.
        first_norm: ‖Δε‖₂ at the first step of the mitigated inputs, ``[N]``, float32: one noise's ``text_noise_norm``.
        evaluations: UNet evaluations, ``[N]``: those that the mitigation took and two a step.

    """

    latents: Tensor
    first_norm: Tensor
    evaluations: Tensor


@dataclass(frozen=True)
class MitigatedSampler:
    """How samples are generated, whatever the mitigation.

    Args:
        scheduler_config: config of the training schedule.
        steps: DDIM steps, trailing spacing.
        guidance_scale: classifier-free guidance; a guidance schedule ends at it.

    """

    scheduler_config: Any
    steps: int = 20
    guidance_scale: float = 3.0

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, mitigation: InferenceMitigation, start: Start) -> Generated:
        """Samples of ``start``, all at once; without a mitigation just what :class:`cxrguard.diffusion.sampling.Sampler` makes."""
        scheduler = ddim_scheduler(self.scheduler_config, self.steps, start.noise.device)
        steered = mitigation.steer(denoiser, start)
        ready, evaluations = mitigation.prepare(steered, start, int(scheduler.timesteps[0]))
        guidance = mitigation.guidance(self.guidance_scale, len(denoiser.alphas_cumprod))
        first, latents = _follow(steered, scheduler, ready, guidance)
        return Generated(latents, first, evaluations + 2 * self.steps)


def _follow(denoiser: Denoiser, scheduler: Any, start: Start, guidance: Guidance) -> tuple[Float[Tensor, " n"], Float[Tensor, "n c h w"]]:
    """‖Δε‖ at the first step, and x_0; each step is guided as ε_∅ + s Δε with each sample's own s."""
    # From here on the denoiser speaks noise, whatever it was trained to predict.
    scheduler.register_to_config(prediction_type="epsilon")
    latents, norms = start.noise, []
    for t in scheduler.timesteps:
        timesteps = t.expand(len(latents)).to(latents.device)
        text, uncond = denoiser.predict_noise_pair(latents, timesteps, start.encoder_hidden_states, start.uncond_hidden_states)
        norms.append(per_sample_norm(text - uncond))
        guided = uncond + guidance(int(t), norms[-1])[:, None, None, None] * (text - uncond)
        latents = scheduler.step(guided, t, latents, return_dict=False)[0]
    return norms[0], latents
