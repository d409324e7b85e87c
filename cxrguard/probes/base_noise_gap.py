"""How far fine-tuning has moved the prediction for a prompt, on noise that holds no image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_difference import check_seeds, check_timesteps, per_sample_norm, text_difference

DIFFERENCES = ("conditional", "text")


class BaseNoiseGap:
    """Mean over timesteps and noises of ‖ε(z, t, c) − ε_base(z, t, c)‖₂ with z ~ N(0, I) presented as if it were x_t.

    The score difference to a less-trained model (Kim and Lee 2026, arXiv 2605.26756, eq. 6, there per coordinate along a
    trajectory), summed up and without denoising. With ``difference="text"`` ‖Δε − Δε_base‖₂, in which what fine-tuning did to
    every prompt alike cancels out. Unlike the difference of two norms, it also sees a prediction that turned. Range [0, ∞); higher
    means memorized. 2 evaluations a timestep and noise, 4 for ``"text"``; half of them on the base.

    Args:
        name: the name in the audit.
        timesteps: the timesteps to present the noise at.
        seeds: noises a prompt, the same at every timestep and for both models.
        difference: ``"conditional"`` or ``"text"``.

    """

    direction = "higher"
    needs_base = True

    def __init__(
        self, *, name: str = "base_noise_gap", timesteps: Sequence[int] = (700,), seeds: int = 4, difference: str = "conditional"
    ) -> None:
        if difference not in DIFFERENCES:
            raise ValueError(f"difference must be one of {', '.join(DIFFERENCES)}, not {difference!r}")
        self.name = name
        self.timesteps = check_timesteps(timesteps)
        self.seeds = check_seeds(seeds)
        self.difference = difference
        self.evals_per_prompt = (2 if difference == "conditional" else 4) * len(self.timesteps) * seeds

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Scores ``[N]``, float32.

        Raises:
            BadInputError: If the batch has no base.

        """
        base, as_base = batch.require_base(self.name), batch.as_base()
        gaps = []
        for seed in range(self.seeds):
            noise = batch.noise(seed)
            for t in self.timesteps:
                gaps.append(per_sample_norm(self._predict(denoiser, batch, noise, t) - self._predict(base, as_base, noise, t)))
        return torch.stack(gaps).mean(dim=0)

    def _predict(self, denoiser: Denoiser, batch: ProbeBatch, noise: Tensor, t: int) -> Tensor:
        if self.difference == "text":
            return text_difference(denoiser, batch, noise, t)
        return denoiser.predict_noise(noise, batch.at(t, denoiser), batch.encoder_hidden_states)
