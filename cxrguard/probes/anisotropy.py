"""Asthana's detector: the size of the guidance at high noise, and its angle at low noise."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_difference import check_seeds, per_sample_norm, text_difference


def guidance_alignment(noise_pred_uncond: Float[Tensor, "n c h w"], difference: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """cos(ε_∅, Δε) over the channels of each position, averaged over positions. Range [−1, 1]; higher means memorized."""
    return cosine_similarity(noise_pred_uncond.float(), difference.float(), dim=1).mean(dim=(1, 2))


class Anisotropy:
    """γ₁ ‖Δε(z, t_T)‖₂ + γ₂ cos(ε(z, t_low, ∅), Δε(z, t_low)), both on the same pure noise z, averaged over noises.

    Asthana and Belagiannis, ICLR 2026 (arXiv 2601.20642): the norm holds where the log-probability is isotropic (high noise), the
    angle where it is not (low noise). t_T is the first and t_low the third-last timestep of the schedule, as in the authors'
    code; so is the cosine, taken over channels at every position (:func:`guidance_alignment`). Everything is in noise; the
    authors take scores and raw velocities for a v-prediction model. Range [−γ₂, ∞); higher means memorized. 4 evaluations a noise.

    Args:
        name: the name in the audit.
        gamma_norm: γ₁. 1 in both published settings.
        gamma_cosine: γ₂. 2 for Stable Diffusion 1 (4 × 64 × 64 latents), 0.1 for 2. The norm grows with √numel, so γ₂ is a model's own.
        seeds: noises a prompt.
        schedule_steps: length of the trailing-spaced DDIM schedule.

    """

    direction = "higher"

    def __init__(
        self,
        *,
        name: str = "anisotropy",
        gamma_norm: float = 1.0,
        gamma_cosine: float = 2.0,
        seeds: int = 4,
        schedule_steps: int = 50,
    ) -> None:
        if schedule_steps < 3:
            raise ValueError(f"schedule_steps must be at least 3, for a third-last timestep, not {schedule_steps}")
        self.name = name
        self.gamma_norm = gamma_norm
        self.gamma_cosine = gamma_cosine
        self.seeds = check_seeds(seeds)
        self.schedule_steps = schedule_steps
        self.evals_per_prompt = 4 * seeds

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Scores ``[N]``, float32."""
        timesteps = batch.timesteps(self.schedule_steps)
        scores = [self._score(denoiser, batch, batch.noise(seed), timesteps[0], timesteps[-3]) for seed in range(self.seeds)]
        return torch.stack(scores).mean(dim=0)

    def _score(self, denoiser: Denoiser, batch: ProbeBatch, noise: Tensor, first: int, low: int) -> Tensor:
        norm = per_sample_norm(text_difference(denoiser, batch, noise, first))
        text, uncond = denoiser.predict_noise_pair(noise, batch.at(low, denoiser), batch.encoder_hidden_states, batch.uncond_hidden_states)
        return self.gamma_norm * norm + self.gamma_cosine * guidance_alignment(uncond, text - uncond)
