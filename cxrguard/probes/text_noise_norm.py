"""Wen's detector: how strongly the text steers the noise prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_difference import check_seeds, check_steps, per_sample_norm


def text_noise_norm(noise_pred_text: Float[Tensor, "n c h w"], noise_pred_uncond: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """‖ε(x_t, e_p) − ε(x_t, e_∅)‖₂ of each sample (Wen et al., ICLR 2024, eq. 3). Range [0, ∞); higher means memorized."""
    return per_sample_norm(noise_pred_text - noise_pred_uncond)


def text_noise_norm_rms(noise_pred_text: Float[Tensor, "n c h w"], noise_pred_uncond: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """:func:`text_noise_norm` / √numel: the root mean square of Δε, which latents of different sizes share.

    Range [0, ∞); higher means memorized.
    """
    return text_noise_norm(noise_pred_text, noise_pred_uncond) / math.sqrt(noise_pred_text[0].numel())


class TextNoiseNorm:
    """Mean of :func:`text_noise_norm` over steps of the guided trajectory and ``seeds`` noises.

    Args:
        name: the name in the audit.
        steps: the first so many timesteps of the schedule; 1 is the first step, ``schedule_steps`` the published average.
        at: in place of ``steps``, the places on the trajectory to average over, 0 the first. The trajectory is followed up to the
            last of them, and every step on the way costs its evaluations.
        seeds: starting noises a prompt.
        schedule_steps: length of the trailing-spaced DDIM schedule.
        guidance_scale: guidance along the trajectory.
        rms: divide by √numel (:func:`text_noise_norm_rms`).

    """

    direction = "higher"

    def __init__(
        self,
        *,
        name: str = "text_noise_norm",
        steps: int = 1,
        at: Sequence[int] | None = None,
        seeds: int = 4,
        schedule_steps: int = 50,
        guidance_scale: float = 7.5,
        rms: bool = False,
    ) -> None:
        if at is not None and steps != 1:
            raise ValueError("give steps (the first so many) or at (any places on the trajectory), not both")
        self.at = tuple(range(check_steps(steps, schedule_steps))) if at is None else tuple(sorted(set(at)))
        if not self.at or not 0 <= self.at[0] <= self.at[-1] < schedule_steps:
            raise ValueError(f"at must hold places 0 to schedule_steps - 1 ({schedule_steps - 1}), not {list(self.at)}")
        self.name = name
        self.seeds = check_seeds(seeds)
        self.schedule_steps = schedule_steps
        self.guidance_scale = guidance_scale
        self.measure = text_noise_norm_rms if rms else text_noise_norm
        self.evals_per_prompt = 2 * (self.at[-1] + 1) * seeds

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Scores ``[N]``, float32."""
        norms = [norm for seed in range(self.seeds) for norm in self._trajectory(denoiser, batch, seed)]
        return torch.stack(norms).mean(dim=0)

    def _trajectory(self, denoiser: Denoiser, batch: ProbeBatch, seed: int) -> list[Tensor]:
        steps = batch.trajectory(denoiser, seed, self.schedule_steps, self.guidance_scale)
        places = islice(enumerate(steps), self.at[-1] + 1)
        return [self.measure(text, uncond) for place, (text, uncond, _) in places if place in self.at]
