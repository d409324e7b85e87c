"""No guidance until a fixed timestep."""

from __future__ import annotations

import torch
from torch import Tensor

from cxrguard.mitigations.inference.base import Guidance, InferenceMitigation


def switching_at(transition: float, before: float, after: float, schedule: int) -> Guidance:
    """``before`` while t > transition, of 1,000 timesteps or that share of ``schedule``, then ``after``."""
    at = transition * schedule / 1000

    def scale(timestep: int, norms: Tensor) -> Tensor:
        return torch.full_like(norms, before if timestep > at else after)

    return scale


class StaticTransition(InferenceMitigation):
    """s(t) = 0 while t > 500, then the guidance scale (Jain et al., CVPR 2025, "static transition point").

    Early guidance draws a memorized prompt into its attraction basin. Published: 0 until t = 500 of 1,000, then 7.5 (here: what is asked
    for); their script also takes finer steps from there, this one does not. ``text_noise_norm`` at the first step cannot change: only the
    samples show what it does.

    Evaluations: none beside the sampling.

    Args:
        transition: the timestep, of a schedule of 1,000; of another schedule the same share.
        before: the scale until then; 0 is unconditional.

    """

    name = "static_transition"
    acts_on = ("guidance",)

    def __init__(self, transition: float = 500, before: float = 0.0) -> None:
        self.transition, self.before = transition, before

    def guidance(self, guidance_scale: float, schedule: int) -> Guidance:
        """See :meth:`InferenceMitigation.guidance`."""
        return switching_at(self.transition, self.before, guidance_scale, schedule)
