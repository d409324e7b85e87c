"""What a probe is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.randomness import normal


@dataclass(frozen=True)
class ProbeBatch:
    """Prompts to score, and their images where a probe asks for them.

    Attributes:
        encoder_hidden_states: text, ``[N, L, D]``.
        uncond_hidden_states: the empty prompt, ``[1, L, D]``.
        latents: each prompt's own image, ``[N, C, h, w]``.
        keys: a hash a prompt; all noise is a function of (seed, key, draw), never of the place in the batch.
        seed: the run's probe seed.
        scheduler_config: config of the training schedule.

    """

    encoder_hidden_states: Tensor
    uncond_hidden_states: Tensor
    latents: Tensor
    keys: tuple[str, ...]
    seed: int
    scheduler_config: Any

    def noise(self, draw: int) -> Float[Tensor, "n c h w"]:
        """The ``draw``-th noise of every prompt."""
        shape = tuple(self.latents.shape[1:])
        drawn = [normal(shape, "probe", self.seed, key, draw) for key in self.keys]
        return torch.stack(drawn).to(self.latents.device)

    def split(self, size: int) -> list[ProbeBatch]:
        """Batches of at most ``size`` prompts; the scores do not depend on it."""
        return [self._part(slice(i, i + size)) for i in range(0, len(self.keys), size)]

    def _part(self, part: slice) -> ProbeBatch:
        return ProbeBatch(
            self.encoder_hidden_states[part],
            self.uncond_hidden_states,
            self.latents[part],
            self.keys[part],
            self.seed,
            self.scheduler_config,
        )


class Probe(Protocol):
    """A detector: one score a prompt.

    Attributes:
        name: the detector's name in ``audit.json``.
        direction: ``"higher"`` or ``"lower"``: which scores mean memorized.
        evals_per_prompt: UNet evaluations a prompt (a conditional + unconditional pair counts two).

    """

    name: str
    direction: str
    evals_per_prompt: int

    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Score every prompt of ``batch``."""
        ...
