"""Guidance away from the prompt until a fixed timestep."""

from __future__ import annotations

from cxrguard.mitigations.inference.static_transition import StaticTransition


class OppositeGuidance(StaticTransition):
    """s(t) = −2 while t > 650, then the guidance scale (Jain et al., CVPR 2025, "opposite guidance" with a static transition point).

    ε_∅ − 2 (ε_c − ε_∅) leads away from the attraction basin. Published: −2 until t = 650 of 1,000, then 7.5 (here: what is asked for).
    Their script for the dynamic variant turns the sign at every step; for that variant give :class:`.dynamic_transition.DynamicTransition`
    a negative ``before``. ``text_noise_norm`` at the first step cannot change.

    Evaluations: none beside the sampling.

    Args:
        transition: as of :class:`.static_transition.StaticTransition`.
        before: the scale until then, below 0.

    """

    name = "opposite_guidance"

    def __init__(self, transition: float = 650, before: float = -2.0) -> None:
        if before >= 0:
            raise ValueError(f"before must be below 0 (0 is the static transition), not {before}")
        super().__init__(transition, before)
