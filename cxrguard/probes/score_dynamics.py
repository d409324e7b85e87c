"""How much the conditional prediction changes from one step of the trajectory to the next."""

from __future__ import annotations

from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_difference import check_seeds, per_sample_norm


class ScoreDynamics:
    """Mean over noises of ‖ε(x_{t_k}, c) − ε(x_{t_{k−1}}, c)‖₂ between neighbouring steps of the guided trajectory.

    "Dynamical singularity metric" of an anonymous ICML 2026 submission (randomnameforicml/icml-2026, there squared; AUC 0.965 for
    k = 1 and 0.975 for k = 2 on Stable Diffusion 1.5). Range [0, ∞); *higher* means memorized: guidance throws the latents
    towards one training image in the first steps, more than the schedule asks for (Kim et al. 2025, arXiv 2509.25705), and the
    prediction at a sharp peak turns with them; an over-trained model that names the image at once and stays with it would score lower,
    so it is for the audit to say. 2 evaluations a step up to k and noise.

    Args:
        name: the name in the audit.
        step: k; 1 compares the first two steps, 2 the second and the third.
        seeds: starting noises a prompt.
        schedule_steps: length of the trailing-spaced DDIM schedule.
        guidance_scale: guidance along the trajectory.

    """

    direction = "higher"

    def __init__(
        self, *, name: str = "score_dynamics", step: int = 1, seeds: int = 4, schedule_steps: int = 50, guidance_scale: float = 7.5
    ) -> None:
        if not 1 <= step < schedule_steps:
            raise ValueError(f"step must be 1 to schedule_steps - 1 ({schedule_steps - 1}), not {step}")
        self.name = name
        self.step = step
        self.seeds = check_seeds(seeds)
        self.schedule_steps = schedule_steps
        self.guidance_scale = guidance_scale
        self.evals_per_prompt = 2 * (step + 1) * seeds

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Scores ``[N]``, float32."""
        return torch.stack([self._change(denoiser, batch, seed) for seed in range(self.seeds)]).mean(dim=0)

    def _change(self, denoiser: Denoiser, batch: ProbeBatch, seed: int) -> Tensor:
        steps = batch.trajectory(denoiser, seed, self.schedule_steps, self.guidance_scale)
        before, after = (text for text, _, _ in islice(steps, self.step - 1, self.step + 1))
        return per_sample_norm(after - before)
