"""Step-wise error: deterministic diffusion leads a training image there and back with less loss."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.diffusion.objective import add_noise, gather_alpha_bar
from cxrguard.probes.batch import ProbeBatch


class SecMI:
    """‖x_t − ψ(φ(x_t))‖₂² with x_t the deterministic DDIM inversion of the prompt's own image to t, φ one step on to t + k, ψ one back.

    The t-error of Duan et al., ICML 2023 (SecMI_stat). From s to u:
    x_u = √ᾱ_u (x_s − √(1 − ᾱ_s) ε(x_s, s, c)) / √ᾱ_s + √(1 − ᾱ_u) ε(x_s, s, c).
    Range [0, ∞); *lower* means memorized. No noise is drawn: seeds make no difference. t/k + 2 evaluations. Predictions are of the
    prompt without guidance. (The authors' loop for t = 100 ends at 90, a step short of their text and of this.)

    Args:
        name: the name in the audit.
        timestep: t.
        interval: k, a divisor of t.

    """

    direction = "lower"
    needs_images = True

    def __init__(self, *, name: str = "secmi", timestep: int = 100, interval: int = 10) -> None:
        if interval < 1 or timestep < interval or timestep % interval:
            raise ValueError(f"timestep ({timestep}) must be a multiple of interval ({interval}), both above 0")
        self.name = name
        self.timestep = timestep
        self.interval = interval
        self.evals_per_prompt = timestep // interval + 2

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Scores ``[N]``, float32."""
        latents = batch.latents
        for t in range(0, self.timestep, self.interval):
            latents = self._move(denoiser, batch, latents, t, t + self.interval)
        further = self._move(denoiser, batch, latents, self.timestep, self.timestep + self.interval)
        back = self._move(denoiser, batch, further, self.timestep + self.interval, self.timestep)
        return (latents - back).float().square().sum(dim=(1, 2, 3))

    def _move(self, denoiser: Denoiser, batch: ProbeBatch, latents: Tensor, start: int, end: int) -> Tensor:
        """One deterministic DDIM step (Song et al., ICLR 2021, eq. 12 with σ = 0), either way."""
        noise = denoiser.predict_noise(latents, batch.at(start, denoiser), batch.encoder_hidden_states)
        alpha = gather_alpha_bar(denoiser.alphas_cumprod, batch.at(start, denoiser))[:, None, None, None]
        image = (latents - (1 - alpha).sqrt() * noise) / alpha.sqrt()
        return add_noise(image, noise, gather_alpha_bar(denoiser.alphas_cumprod, batch.at(end, denoiser)))
