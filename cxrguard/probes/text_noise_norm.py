"""Wen's detector: how strongly the text steers the noise prediction."""

from __future__ import annotations

from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.diffusion.sampling import ddim_scheduler, guided_trajectory
from cxrguard.probes.batch import ProbeBatch


def text_noise_norm(noise_pred_text: Float[Tensor, "n c h w"], noise_pred_uncond: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """‖ε(x_t, e_p) − ε(x_t, e_∅)‖₂ of each sample (Wen et al., ICLR 2024, eq. 3). Range [0, ∞); higher means memorized."""
    difference = (noise_pred_text - noise_pred_uncond).float().flatten(1)
    norms: Tensor = torch.linalg.vector_norm(difference, dim=1)
    return norms


class TextNoiseNorm:
    """Mean of :func:`text_noise_norm` over the first ``steps`` of the guided trajectory and ``seeds`` noises.

    Args:
        name: the name in the audit.
        steps: the first so many timesteps of the schedule; 1 is the first step, ``schedule_steps`` the published average.
        seeds: starting noises a prompt.
        schedule_steps: length of the trailing-spaced DDIM schedule.
        guidance_scale: guidance along the trajectory.

    """

    direction = "higher"

    def __init__(
        self, *, name: str = "text_noise_norm", steps: int = 1, seeds: int = 4, schedule_steps: int = 50, guidance_scale: float = 7.5
    ) -> None:
        if not 1 <= steps <= schedule_steps:
            raise ValueError(f"steps must be 1 to schedule_steps ({schedule_steps}), not {steps}")
        self.name = name
        self.steps = steps
        self.seeds = seeds
        self.schedule_steps = schedule_steps
        self.guidance_scale = guidance_scale
        self.evals_per_prompt = 2 * steps * seeds

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Scores ``[N]``, float32."""
        norms = [norm for seed in range(self.seeds) for norm in self._trajectory(denoiser, batch, seed)]
        return torch.stack(norms).mean(dim=0)

    def _trajectory(self, denoiser: Denoiser, batch: ProbeBatch, seed: int) -> list[Tensor]:
        scheduler = ddim_scheduler(batch.scheduler_config, self.schedule_steps, batch.latents.device)
        steps = guided_trajectory(
            denoiser, scheduler, batch.encoder_hidden_states, batch.uncond_hidden_states, batch.noise(seed), self.guidance_scale
        )
        return [text_noise_norm(text, uncond) for text, uncond, _ in islice(steps, self.steps)]
