"""Δε at one timestep: what most detectors are made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.probes.batch import ProbeBatch


def text_difference(denoiser: Denoiser, batch: ProbeBatch, latents: Float[Tensor, "n c h w"], timestep: int) -> Float[Tensor, "n c h w"]:
    """Δε = ε(x, c) − ε(x, ∅) at ``timestep``; two evaluations a prompt."""
    noise_pred_text, noise_pred_uncond = denoiser.predict_noise_pair(
        latents, batch.at(timestep, denoiser), batch.encoder_hidden_states, batch.uncond_hidden_states
    )
    return noise_pred_text - noise_pred_uncond


def per_sample_norm(values: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """‖·‖₂ of each sample, in float32."""
    norms: Tensor = torch.linalg.vector_norm(values.float().flatten(1), dim=1)
    return norms


def check_seeds(seeds: int, least: int = 1) -> int:
    """``seeds`` unless they are too few.

    Raises:
        ValueError: For fewer than ``least``.

    """
    if seeds < least:
        raise ValueError(f"seeds must be at least {least}, not {seeds}")
    return seeds


def check_steps(steps: int, schedule_steps: int) -> int:
    """``steps`` unless the schedule has not so many.

    Raises:
        ValueError: For fewer than 1, or more than ``schedule_steps``.

    """
    if not 1 <= steps <= schedule_steps:
        raise ValueError(f"steps must be 1 to schedule_steps ({schedule_steps}), not {steps}")
    return steps


def check_timesteps(timesteps: Sequence[int]) -> tuple[int, ...]:
    """The timesteps as a tuple.

    Raises:
        ValueError: Where there is none, or one is negative.

    """
    checked = tuple(timesteps)
    if not checked or min(checked) < 0:
        raise ValueError(f"timesteps must be one or more timesteps of the schedule, counted from 0, not {list(checked)}")
    return checked
