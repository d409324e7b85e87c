"""A detector of our own: a memorized prompt steers hard, and brings different noises to one image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_difference import check_seeds, per_sample_norm

_TINY = torch.finfo(torch.float32).tiny


def log_agreement(samples: Float[Tensor, "s n c h w"]) -> Float[Tensor, " n"]:
    """log(‖x‖² / ‖x − x̄‖²), both means over the seeds' samples, x̄ their mean. Range [0, ∞); higher: the seeds agree."""
    flat = samples.float().flatten(2)
    power = flat.square().mean(dim=(0, 2))
    spread = (flat - flat.mean(dim=0)).square().mean(dim=(0, 2))
    return power.clamp_min(_TINY).log() - spread.clamp_min(_TINY).log()


class SeedConvergence:
    """Σ_k mean log‖Δε_k‖₂ over the first ``norm_steps`` steps, plus :func:`log_agreement` of the samples at the end.

    One coarse guided sampling of ``steps`` steps from each of ``seeds`` noises gives both: Wen's norm (ICLR 2024, eq. 3) at its
    first steps, free of charge, and whether the noises end at one image, which is what Carlini et al. (2023) look for in cliques of
    hundreds of full samplings. Each misses prompts that the other finds. Logarithms make the two comparable without a
    reference; the weights are 1. Chosen on one model (seed 0 of ``experiment=nih_canaries``), reported on another; see the README.
    Range (−∞, ∞); higher means memorized. 2 evaluations a step and noise.

    Args:
        name: the name in the audit.
        steps: of the coarse, trailing-spaced DDIM schedule.
        seeds: starting noises a prompt, at least 2.
        norm_steps: the first so many steps whose norms count.
        guidance_scale: guidance along the trajectory.

    """

    direction = "higher"

    def __init__(
        self, *, name: str = "seed_convergence", steps: int = 4, seeds: int = 2, norm_steps: int = 2, guidance_scale: float = 3.0
    ) -> None:
        if not 0 <= norm_steps <= steps or steps < 1:
            raise ValueError(f"norm_steps must be 0 to steps, and steps at least 1, not {norm_steps} and {steps}")
        self.name = name
        self.steps = steps
        self.seeds = check_seeds(seeds, least=2)
        self.norm_steps = norm_steps
        self.guidance_scale = guidance_scale
        self.evals_per_prompt = 2 * steps * seeds

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Scores ``[N]``, float32."""
        runs = [self._sample(denoiser, batch, seed) for seed in range(self.seeds)]
        norms = torch.stack([norm for norm, _ in runs]).mean(dim=0)
        return norms + log_agreement(torch.stack([sample for _, sample in runs]))

    def _sample(self, denoiser: Denoiser, batch: ProbeBatch, seed: int) -> tuple[Tensor, Tensor]:
        """Summed log norms ``[N]`` of the first steps, and the samples that the run ends with."""
        latents = batch.noise(seed)
        norms = latents.new_zeros(len(latents), dtype=torch.float32)
        for step, (text, uncond, after) in enumerate(batch.trajectory(denoiser, seed, self.steps, self.guidance_scale)):
            if step < self.norm_steps:
                norms = norms + per_sample_norm(text - uncond).clamp_min(_TINY).log()
            latents = after
        return norms, latents
