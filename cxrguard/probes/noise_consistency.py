"""NeMo's signal: a memorized prompt steers every noise the same way."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_difference import check_seeds, text_difference


def mean_pairwise_cosine(differences: Float[Tensor, "s n c h w"]) -> Float[Tensor, " n"]:
    """Mean over pairs of seeds of cos(Δε_i, Δε_j). Range [−1, 1]; higher means memorized."""
    units = normalize(differences.float().flatten(2), dim=2)
    return torch.stack([(units[i] * units[j]).sum(dim=1) for i, j in combinations(range(len(units)), 2)]).mean(dim=0)


def max_pairwise_ssim(differences: Float[Tensor, "s n c h w"]) -> Float[Tensor, " n"]:
    """The largest :func:`ssim` of two seeds' Δε, each channel scaled to [0, 1] first. Range [−1, 1]; higher means memorized."""
    flat = differences.float().flatten(3)
    low, high = (edge.unsqueeze(-1).unsqueeze(-1) for edge in (flat.amin(dim=3), flat.amax(dim=3)))
    scaled = (differences.float() - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)
    return torch.stack([ssim(scaled[i], scaled[j]) for i, j in combinations(range(len(scaled)), 2)]).amax(dim=0)


def ssim(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Structural similarity of images in [0, 1] (Wang et al. 2004, eq. 13), mean over flat windows of at most 7 × 7 and over channels."""
    window = (min(7, a.shape[-2]), min(7, a.shape[-1]))
    mean_a, mean_b, aa, bb, ab = (avg_pool2d(x, window, stride=1) for x in (a, b, a * a, b * b, a * b))
    var_a, var_b, cov = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    full = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return full.mean(dim=(1, 2, 3))


AGREEMENTS: dict[str, Callable[[Tensor], Tensor]] = {"cosine": mean_pairwise_cosine, "ssim": max_pairwise_ssim}


class NoiseConsistency:
    """Agreement over ``seeds`` noises of Δε at the first step of the schedule.

    After Hintersdorf et al., NeurIPS 2024 (NeMo), who take the largest pairwise MS-SSIM of 10 seeds' guided ε(x) − x after one step; here
    it is of Δε, in which what every prompt shares cancels out. ``"cosine"`` averages over pairs and does not see the size of Δε;
    ``"ssim"`` is the published form at one scale, for three scales of 11-pixel windows need latents of more than 40 × 40. Range
    [−1, 1]; higher means memorized. 2 evaluations a noise.

    Args:
        name: the name in the audit.
        seeds: starting noises a prompt, at least 2.
        agreement: ``"cosine"`` (:func:`mean_pairwise_cosine`) or ``"ssim"`` (:func:`max_pairwise_ssim`).
        schedule_steps: length of the trailing-spaced DDIM schedule.

    """

    direction = "higher"

    def __init__(self, *, name: str = "noise_consistency", seeds: int = 4, agreement: str = "cosine", schedule_steps: int = 50) -> None:
        if agreement not in AGREEMENTS:
            raise ValueError(f"agreement must be one of {', '.join(AGREEMENTS)}, not {agreement!r}")
        self.name = name
        self.seeds = check_seeds(seeds, least=2)
        self.agreement = AGREEMENTS[agreement]
        self.schedule_steps = schedule_steps
        self.evals_per_prompt = 2 * seeds

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Scores ``[N]``, float32."""
        first = batch.timesteps(self.schedule_steps)[0]
        return self.agreement(torch.stack([text_difference(denoiser, batch, batch.noise(seed), first) for seed in range(self.seeds)]))
