"""Proximal initialization: a training image's own noise prediction is reproduced at a later timestep."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.diffusion.objective import add_noise, gather_alpha_bar
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_difference import check_timesteps


class Pia:
    """Mean over timesteps of ‖ε(x₀, 0, c) − ε(x_t, t, c)‖_p^p, with x_t = √ᾱ_t x₀ + √(1 − ᾱ_t) ε(x₀, 0, c), at the prompt's own image.

    Kong et al., ICLR 2024 (arXiv 2305.18355): PIA, and PIAN with ``normalize``, where ε(x₀, 0) is first scaled to the mean
    absolute value of Gaussian noise, √(2/π). Range [0, ∞); *lower* means memorized. No noise is drawn: seeds make no
    difference. 1 evaluation, and 1 a timestep. Predictions are of the prompt without guidance; the authors guide (7.5) on Stable Diffusion.

    Args:
        name: the name in the audit.
        timesteps: t; the authors scan multiples of 10 up to 500 on Stable Diffusion.
        p: the order of the norm.
        normalize: PIAN.

    """

    direction = "lower"
    needs_images = True

    def __init__(self, *, name: str = "pia", timesteps: Sequence[int] = (200,), p: float = 4.0, normalize: bool = False) -> None:
        if p <= 0:
            raise ValueError(f"p must be above 0, not {p}")
        self.name = name
        self.timesteps = check_timesteps(timesteps)
        self.p = p
        self.normalize = normalize
        self.evals_per_prompt = 1 + len(self.timesteps)

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Scores ``[N]``, float32."""
        noise = denoiser.predict_noise(batch.latents, batch.at(0, denoiser), batch.encoder_hidden_states)
        if self.normalize:
            noise = noise / noise.abs().mean(dim=(1, 2, 3), keepdim=True) * math.sqrt(2 / math.pi)
        return torch.stack([self._distance(denoiser, batch, noise, t) for t in self.timesteps]).mean(dim=0)

    def _distance(self, denoiser: Denoiser, batch: ProbeBatch, noise: Tensor, t: int) -> Tensor:
        noisy = add_noise(batch.latents, noise, gather_alpha_bar(denoiser.alphas_cumprod, batch.at(t, denoiser)))
        again = denoiser.predict_noise(noisy, batch.at(t, denoiser), batch.encoder_hidden_states)
        return (noise - again).float().abs().pow(self.p).sum(dim=(1, 2, 3))
