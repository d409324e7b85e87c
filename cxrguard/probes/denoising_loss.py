"""Loss-threshold membership: a training image is denoised better under its own prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.diffusion.objective import add_noise, per_sample_loss
from cxrguard.probes.batch import ProbeBatch


class DenoisingLoss:
    """Mean over fixed timesteps and noises of ‖ε − ε(x_t, c)‖²/numel at the prompt's own image.

    The loss attack of Matsumoto et al. 2023 (after Yeom et al. 2018). Range [0, ∞); *lower* means memorized. Both
    prediction types are compared in noise, so that scores of one model are on one scale.

    Args:
        timesteps: the timesteps to average over.
        seeds: noises a timestep.

    """

    name = "denoising_loss"
    direction = "lower"
    needs_images = True

    def __init__(self, *, timesteps: Sequence[int] = (100, 300, 500, 700), seeds: int = 2) -> None:
        self.timesteps = tuple(timesteps)
        self.seeds = seeds
        self.evals_per_prompt = len(self.timesteps) * seeds

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Scores ``[N]``, float32."""
        losses = [self._loss(denoiser, batch, t, seed) for t in self.timesteps for seed in range(self.seeds)]
        return torch.stack(losses).mean(dim=0)

    def _loss(self, denoiser: Denoiser, batch: ProbeBatch, t: int, seed: int) -> Tensor:
        n = len(batch.keys)
        timesteps = torch.full((n,), t, device=batch.latents.device)
        noise = batch.noise(1000 * (seed + 1) + t)
        alpha_bar = denoiser.alphas_cumprod.to(batch.latents.device)[timesteps]
        noisy = add_noise(batch.latents, noise, alpha_bar)
        return per_sample_loss(denoiser.predict_noise(noisy, timesteps, batch.encoder_hidden_states), noise)
