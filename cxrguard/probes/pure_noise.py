"""Wen's detector without denoising: how strongly the text steers the prediction on noise that holds no image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_difference import check_seeds, check_timesteps, per_sample_norm, text_difference


class PureNoiseNorm:
    """Mean over timesteps and noises of ‖ε(z, t, c) − ε(z, t, ∅)‖₂ with z ~ N(0, I) presented as if it were x_t.

    The norm of Wen et al. (ICLR 2024, eq. 3) taken off the trajectory: below the last timestep the prediction is more than a copy of
    its input, and no step has to be taken to get there. Range [0, ∞); higher means memorized. 2 evaluations a timestep and noise.

    Args:
        name: the name in the audit.
        timesteps: the timesteps to present the noise at.
        seeds: noises a prompt, the same at every timestep.
        rms: divide by √numel, which latents of different sizes share.

    """

    direction = "higher"

    def __init__(self, *, name: str = "pure_noise_norm", timesteps: Sequence[int] = (800,), seeds: int = 4, rms: bool = False) -> None:
        self.name = name
        self.timesteps = check_timesteps(timesteps)
        self.seeds = check_seeds(seeds)
        self.rms = rms
        self.evals_per_prompt = 2 * len(self.timesteps) * seeds

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Scores ``[N]``, float32."""
        norms = []
        for seed in range(self.seeds):
            noise = batch.noise(seed)
            norms += [per_sample_norm(text_difference(denoiser, batch, noise, t)) for t in self.timesteps]
        mean = torch.stack(norms).mean(dim=0)
        return mean / math.sqrt(batch.latents[0].numel()) if self.rms else mean
