"""Initial noise moved to where the text steers less sharply, in two closed steps."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.diffusion.text_effect import per_sample_unit, text_effect
from cxrguard.mitigations.inference.base import Guidance, InferenceMitigation, Start, for_latents
from cxrguard.mitigations.inference.static_transition import switching_at

PUBLISHED_RHO = 50.0


class InitialNoise(InferenceMitigation):
    """x_T ← x_T − γ [Δε(x_T + ρ Δε/‖Δε‖) − Δε(x_T)], twice, then guidance from the sixth of 50 steps on (Han et al., NeurIPS 2025,
    "batch-wise" adjustment).

    Published: γ = .7, ρ = 50, 2 iterations; ε_∅ alone in the first 5 of 50 steps (``apply_cfg_step`` 4), which is while t ≥ 900 of
    1,000. In spite of its name every sample is moved by itself.

    Evaluations: 4 an iteration.

    Args:
        gamma: γ, step.
        rho: ρ, how far ahead is looked; None for the published 50, which is for latents of 4 × 64 × 64, times √(numel / 16,384).
        iterations: how often.
        transition: no guidance while t is at or above it, of 1,000 timesteps; 1000 guides every step.

    """

    name = "initial_noise"
    acts_on = ("noise", "guidance")

    def __init__(self, gamma: float = 0.7, rho: float | None = None, iterations: int = 2, transition: float = 900) -> None:
        self.gamma, self.rho, self.iterations, self.transition = gamma, rho, iterations, transition

    @torch.no_grad()
    def prepare(self, denoiser: Denoiser, start: Start, timestep: int) -> tuple[Start, Int[Tensor, " n"]]:
        """See :meth:`InferenceMitigation.prepare`."""
        rho = for_latents(PUBLISHED_RHO, start.noise) if self.rho is None else self.rho

        def effect(latents: Tensor) -> Tensor:
            return text_effect(denoiser, latents, timestep, start.encoder_hidden_states, start.uncond_hidden_states)

        latents = start.noise
        for _ in range(self.iterations):
            here = effect(latents)
            latents = latents - self.gamma * (effect(latents + rho * per_sample_unit(here)) - here)
        return replace(start, noise=latents), torch.full((len(latents),), 4 * self.iterations)

    def guidance(self, guidance_scale: float, schedule: int) -> Guidance:
        """See :meth:`InferenceMitigation.guidance`."""
        # Timesteps are whole: above 899.5 of 1,000 is at or above 900.
        return switching_at(self.transition - 500 / schedule, 0.0, guidance_scale, schedule)
