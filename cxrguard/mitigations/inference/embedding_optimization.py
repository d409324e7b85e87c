"""The prompt's embedding moved until the text steers less."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.diffusion.text_effect import per_sample_norm
from cxrguard.mitigations.inference.base import InferenceMitigation, Start, for_latents
from cxrguard.mitigations.inference.minimize import minimize_each

PUBLISHED_TARGET = 3.0


class EmbeddingOptimization(InferenceMitigation):
    """min over e of L(e) = ‖ε(x_T, e) − ε(x_T, ∅)‖₂ at the first step, by AdamW (Wen et al., ICLR 2024, section 5.1).

    Published: learning rate .05, at most 10 iterations, stop at L ≤ 3, weight decay .01 (AdamW's own), the first token (BOS) kept.
    Differences: the norm is each sample's (theirs is over the whole batch and grows with it), each sample has its own embedding and stops
    on its own, and the first token is kept from weight decay, too. The embedding found is used at every step.

    Evaluations: 1 for ε(x_T, ∅) and 1 an iteration.

    Args:
        learning_rate: of AdamW.
        iterations: at most.
        target: L at which a sample stops; None for the published 3, which is for latents of 4 × 64 × 64, times √(numel / 16,384).

    """

    name = "embedding_optimization"
    acts_on = ("embedding",)

    def __init__(self, learning_rate: float = 0.05, iterations: int = 10, target: float | None = None) -> None:
        self.learning_rate, self.iterations, self.target = learning_rate, iterations, target

    def prepare(self, denoiser: Denoiser, start: Start, timestep: int) -> tuple[Start, Int[Tensor, " n"]]:
        """See :meth:`InferenceMitigation.prepare`."""
        timesteps = torch.full((len(start.noise),), timestep, device=start.noise.device)
        text = start.encoder_hidden_states
        with torch.no_grad():
            uncond = denoiser.predict_noise(start.noise, timesteps, start.uncond_hidden_states.expand_as(text))

        def loss(states: Tensor, rows: Tensor) -> Tensor:
            return per_sample_norm(denoiser.predict_noise(start.noise[rows], timesteps[rows], states) - uncond[rows])

        target = for_latents(PUBLISHED_TARGET, start.noise) if self.target is None else self.target
        states, evaluated = minimize_each(
            text, loss, lambda values: torch.optim.AdamW(values, lr=self.learning_rate), target, self.iterations, _all_but_first(text)
        )
        return replace(start, encoder_hidden_states=states), 1 + evaluated


def _all_but_first(states: Tensor) -> Tensor:
    free = torch.ones(1, states.shape[1], 1, dtype=torch.bool, device=states.device)
    free[:, 0] = False
    return free
