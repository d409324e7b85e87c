"""What a mitigation at inference may change, and what it is given.

Every mitigation is an :class:`InferenceMitigation` and overrides the steps that it acts on; the others leave things as they are. In
order: :meth:`~InferenceMitigation.rewrite` (prompt), :meth:`~InferenceMitigation.prepare` (embedding and initial noise),
:meth:`~InferenceMitigation.steer` (attention), :meth:`~InferenceMitigation.guidance` (its scale at each step).

Cost is counted in UNet evaluations: one conditional or one unconditional forward pass of one sample is 1, so that a guided step is 2.
Backward passes are not counted; one costs about two forward passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.errors import BadInputError
from cxrguard.randomness import numpy_generator, prompt_key

SD_NUMEL = 4 * 64 * 64
"""Values of a latent of Stable Diffusion, which published thresholds were set for."""

Guidance = Callable[[int, Tensor], Tensor]
"""(timestep, ‖Δε‖ ``[N]`` there) → the scale ``[N]`` by which the step is guided. Called once a step, the noisiest first."""


class Tokens(Protocol):
    """Where a prompt's tokens lie; :class:`cxrguard.probes.tokens.TokenLayout` is one."""

    def section(self, name: str) -> Bool[Tensor, "n l"]:
        """The tokens of ``"begin"``, ``"prompt"``, ``"end"`` or ``"padding"``."""
        ...


class Vocabulary(Protocol):
    """What random words and tokens are drawn from."""

    def random_word(self, generator: np.random.Generator) -> str:
        """A whole word."""
        ...

    def random_token(self, generator: np.random.Generator) -> str:
        """The text of any token that is not special."""
        ...


@dataclass(frozen=True)
class Start:
    """What samples are generated from.

    Attributes:
        encoder_hidden_states: text, ``[N, L, D]``.
        uncond_hidden_states: the empty prompt, ``[1, L, D]``.
        noise: initial noise, ``[N, C, h, w]``.
        tokens: where each prompt's tokens lie, for what tells them apart.

    """

    encoder_hidden_states: Tensor
    uncond_hidden_states: Tensor
    noise: Tensor
    tokens: Tokens | None = None

    def require_tokens(self, name: str) -> Tokens:
        """Where the tokens lie.

        Raises:
            BadInputError: If it was not given.

        """
        if self.tokens is None:
            raise BadInputError(
                f"the mitigation {name!r} tells a prompt's own tokens from the rest, and was not told where they lie. Give Start.tokens "
                "(cxrguard.diffusion.encoding.token_layout makes it), or leave this mitigation out."
            )
        return self.tokens


class InferenceMitigation:
    """Changes nothing; a subclass overrides what it acts on.

    Nothing that one sample gets may depend on the others of its batch, and all randomness is a function of seed and prompt.

    Attributes:
        name: in tables and in the audit.
        acts_on: some of ``"prompt"``, ``"embedding"``, ``"noise"``, ``"attention"``, ``"guidance"``.

    """

    name = "none"
    acts_on: tuple[str, ...] = ()

    @property
    def moves_score(self) -> bool:
        """Whether a score at given inputs can change; a guidance schedule alone changes only where the trajectory goes."""
        return any(step != "guidance" for step in self.acts_on)

    def rewrite(self, prompts: Sequence[str], seed: int, vocabulary: Vocabulary) -> list[str | None]:
        """The prompts that are generated from; None for one that is withheld, so that nothing is generated."""
        return list(prompts)

    def prepare(self, denoiser: Denoiser, start: Start, timestep: int) -> tuple[Start, Int[Tensor, " n"]]:
        """What samples start from, and the UNet evaluations that finding it took, ``[N]``.

        Args:
            denoiser: the model, steered.
            start: see there.
            timestep: the first, noisiest one, for which ``start.noise`` is.

        """
        return start, torch.zeros(len(start.noise), dtype=torch.int64)

    def steer(self, denoiser: Denoiser, start: Start) -> Denoiser:
        """The model that predicts for the samples of ``start``, in their order."""
        return denoiser

    def guidance(self, guidance_scale: float, schedule: int) -> Guidance:
        """The scale at each step of one trajectory.

        Args:
            guidance_scale: what is asked for.
            schedule: timesteps of the training schedule; published timesteps are of 1,000.

        """
        return lambda timestep, norms: torch.full_like(norms, guidance_scale)


def generator_of(name: str, seed: int, prompt: str) -> np.random.Generator:
    """Randomness of a mitigation for a prompt, the same in any batch."""
    return numpy_generator("mitigation", name, seed, prompt_key(prompt))


def for_latents(published: float, noise: Tensor) -> float:
    """A published length of a latent (norm, threshold, step) for latents of another size: times √(numel / :data:`SD_NUMEL`).

    The norm of something of one size a value grows with the root of the number of values, so that this is the same root mean square.
    """
    return published * math.sqrt(noise[0].numel() / SD_NUMEL)
