"""What a probe is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.diffusion.sampling import ddim_scheduler, guided_trajectory
from cxrguard.errors import BadInputError
from cxrguard.probes.tokens import TokenLayout
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
        base: the checkpoint that fine-tuning started from, for the probes that compare with it.
        tokens: where each prompt's own tokens lie, for the probes that tell them from the rest.
        base_hidden_states: ``encoder_hidden_states`` as the base checkpoint's own text encoder makes them, where it is another.
        base_uncond: likewise of the empty prompt.

    """

    encoder_hidden_states: Tensor
    uncond_hidden_states: Tensor
    latents: Tensor
    keys: tuple[str, ...]
    seed: int
    scheduler_config: Any
    base: Denoiser | None = None
    tokens: TokenLayout | None = None
    base_hidden_states: Tensor | None = None
    base_uncond: Tensor | None = None

    def as_base(self) -> ProbeBatch:
        """The same prompts and noise as the base checkpoint reads them."""
        if self.base_hidden_states is None or self.base_uncond is None:
            return self
        return replace(self, encoder_hidden_states=self.base_hidden_states, uncond_hidden_states=self.base_uncond)

    def noise(self, draw: int) -> Float[Tensor, "n c h w"]:
        """The ``draw``-th noise of every prompt."""
        shape = tuple(self.latents.shape[1:])
        drawn = [normal(shape, "probe", self.seed, key, draw) for key in self.keys]
        return torch.stack(drawn).to(self.latents.device)

    def timesteps(self, steps: int) -> list[int]:
        """Those of the trailing-spaced DDIM schedule, the noisiest first."""
        return [int(t) for t in ddim_scheduler(self.scheduler_config, steps).timesteps]

    def trajectory(self, denoiser: Denoiser, draw: int, steps: int, guidance_scale: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The :func:`~cxrguard.diffusion.sampling.guided_trajectory` of ``steps`` DDIM steps from the ``draw``-th noise."""
        scheduler = ddim_scheduler(self.scheduler_config, steps, self.latents.device)
        return guided_trajectory(
            denoiser, scheduler, self.encoder_hidden_states, self.uncond_hidden_states, self.noise(draw), guidance_scale
        )

    def at(self, timestep: int, denoiser: Denoiser) -> Int[Tensor, " n"]:
        """``timestep`` once a prompt.

        Raises:
            ValueError: If the denoiser's schedule has no such timestep.

        """
        if not 0 <= timestep < len(denoiser.alphas_cumprod):
            raise ValueError(f"timestep {timestep} is not on the schedule (0 to {len(denoiser.alphas_cumprod) - 1})")
        return torch.full((len(self.keys),), timestep, device=self.latents.device)

    def require_base(self, probe_name: str) -> Denoiser:
        """The base checkpoint.

        Raises:
            BadInputError: If none was given.

        """
        if self.base is None:
            raise BadInputError(
                f"the detector {probe_name!r} compares with the base checkpoint, and none was given. "
                "Give the model that fine-tuning started from (ProbeBatch.base), or leave this detector out."
            )
        return self.base

    def require_tokens(self, probe_name: str) -> TokenLayout:
        """Where the tokens lie.

        Raises:
            BadInputError: If it was not given.

        """
        if self.tokens is None:
            raise BadInputError(
                f"the detector {probe_name!r} tells a prompt's own tokens from the end token and the padding, and was not told where they "
                "lie. Give ProbeBatch.tokens (cxrguard.diffusion.encoding.token_layout makes it), or leave this detector out."
            )
        return self.tokens

    def split(self, size: int) -> list[ProbeBatch]:
        """Batches of at most ``size`` prompts; the scores do not depend on it."""
        return [self._part(slice(i, i + size)) for i in range(0, len(self.keys), size)]

    def _part(self, part: slice) -> ProbeBatch:
        return replace(
            self,
            encoder_hidden_states=self.encoder_hidden_states[part],
            latents=self.latents[part],
            keys=self.keys[part],
            tokens=None if self.tokens is None else self.tokens[part],
            base_hidden_states=None if self.base_hidden_states is None else self.base_hidden_states[part],
        )


class Probe(Protocol):
    """A detector: one score a prompt.

    Attributes:
        name: the detector's name in ``audit.json``.
        direction: ``"higher"`` or ``"lower"``: which scores mean memorized.
        evals_per_prompt: UNet evaluations a prompt (a conditional + unconditional pair counts two).

    A probe that looks at the prompts' images has ``needs_images = True``, one that compares with the base checkpoint
    ``needs_base = True``; see :func:`needs`.

    """

    name: str
    direction: str
    evals_per_prompt: int

    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Score every prompt of ``batch``."""
        ...


def needs(probe: Probe, what: str) -> bool:
    """Whether a probe needs ``"images"`` or the ``"base"`` checkpoint; one that does not say needs neither."""
    return bool(getattr(probe, f"needs_{what}", False))
