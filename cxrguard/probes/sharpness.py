"""Jeon's detector: how sharply the text bends the log-probability, along the guidance."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.errors import ModelError
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_difference import check_seeds, per_sample_norm, text_difference

_REASONS = ("jvp", "forward AD", "forward-mode", "functorch")


class Sharpness:
    """Mean over noises of ‖(J_c − J_∅)(s_c − s_∅)‖₂ on pure noise at the first timestep of the schedule.

    Jeon et al., ICML 2025 ("Understanding and mitigating memorization in generative models via sharpness of probability
    landscapes"): s = −ε / √(1 − ᾱ_t) is the score, J its Jacobian (the Hessian of log p), so that the norm is
    ‖∂Δε/∂x · Δε‖₂ / (1 − ᾱ_t). The product is a forward-mode derivative, which flash attention lacks: attention is run by its plain
    kernel meanwhile. Range [0, ∞); higher means memorized. 4 evaluations a noise, of which 2 carry a derivative and take about five
    times as long (measured on a CPU): the whole is three times as slow as its evaluations say.

    Args:
        name: the name in the audit.
        seeds: noises a prompt.
        schedule_steps: length of the trailing-spaced DDIM schedule.

    """

    direction = "higher"

    def __init__(self, *, name: str = "sharpness", seeds: int = 4, schedule_steps: int = 50) -> None:
        self.name = name
        self.seeds = check_seeds(seeds)
        self.schedule_steps = schedule_steps
        self.evals_per_prompt = 4 * seeds

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Scores ``[N]``, float32.

        Raises:
            ModelError: If a part of the model has no forward-mode derivative.

        """
        first = batch.timesteps(self.schedule_steps)[0]
        norms = [per_sample_norm(self._product(denoiser, batch, batch.noise(seed), first)) for seed in range(self.seeds)]
        return torch.stack(norms).mean(dim=0) / (1 - float(denoiser.alphas_cumprod[first]))

    def _product(self, denoiser: Denoiser, batch: ProbeBatch, noise: Tensor, timestep: int) -> Tensor:
        """∂Δε/∂x · Δε; the signs and one factor √(1 − ᾱ_t) of J and of s are left to the caller."""
        direction = text_difference(denoiser, batch, noise, timestep)
        try:
            with sdpa_kernel(SDPBackend.MATH), denoiser.contiguous_layout():
                derivative = jvp(lambda x: text_difference(denoiser, batch, x, timestep), (noise,), (direction,))[1]
        except RuntimeError as error:  # NotImplementedError is one
            if not isinstance(error, NotImplementedError) and not any(reason in str(error) for reason in _REASONS):
                raise
            raise ModelError(
                f"the detector {self.name!r} needs forward-mode derivatives (torch.func.jvp), which a part of this model does not have. "
                "Leave this detector out, or use diffusers' default attention processors."
            ) from error
        return torch.as_tensor(derivative)
