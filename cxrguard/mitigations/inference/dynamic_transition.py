"""No guidance until the text steers least."""

from __future__ import annotations

import torch
from torch import Tensor

from cxrguard.mitigations.inference.base import Guidance, InferenceMitigation


class DynamicTransition(InferenceMitigation):
    """s(t) = 0 until ‖ε_c − ε_∅‖₂ has passed its first local minimum, then the guidance scale (Jain et al., CVPR 2025, "dynamic
    transition point").

    The minimum is seen one step late, when the norm has fallen and risen again (strictly); guidance sets in at that step. Each sample has
    its own (their script has one for a batch, and guides by 1.0 before, where the text says 0). A sample without a minimum is never guided,
    and then shows nothing of its prompt; with few steps that is common. ``text_noise_norm`` at the first step cannot change.

    Evaluations: none beside the sampling.

    Args:
        before: the scale until then; below 0 it is the paper's opposite guidance.

    """

    name = "dynamic_transition"
    acts_on = ("guidance",)

    def __init__(self, before: float = 0.0) -> None:
        self.before = before

    def guidance(self, guidance_scale: float, schedule: int) -> Guidance:
        """See :meth:`InferenceMitigation.guidance`."""
        seen: list[Tensor] = []
        passed: Tensor | None = None

        def scale(timestep: int, norms: Tensor) -> Tensor:
            nonlocal passed
            seen.append(norms)
            passed = torch.zeros_like(norms, dtype=torch.bool) if passed is None else passed
            if len(seen) > 2:
                passed = passed | ((seen[-3] > seen[-2]) & (seen[-2] < seen[-1]))
            return torch.where(passed, guidance_scale, self.before).to(norms)

        return scale
