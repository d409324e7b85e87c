"""Any detector, relative to the checkpoint that fine-tuning started from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.probes.batch import Probe, ProbeBatch, needs

_TINY = torch.finfo(torch.float32).tiny

MODES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "difference": lambda score, base: score - base,
    "ratio": lambda score, base: score.clamp_min(_TINY) / base.clamp_min(_TINY),
    "log_ratio": lambda score, base: score.clamp_min(_TINY).log() - base.clamp_min(_TINY).log(),
}


class RelativeToBase:
    """s(θ) against s(θ_base) at the same prompt, image and noise: what fine-tuning has added.

    A prompt may be scored high because it is long or unusual; the base checkpoint finds it so as well, and never saw the patients
    (difficulty calibration, Watson et al., ICLR 2022, with the base as the one reference model). Range (−∞, ∞) for ``difference``
    (s − s_base) and ``log_ratio`` (log s − log s_base), [0, ∞) for ``ratio`` (s / s_base). The direction is the inner probe's; the
    evaluations are twice the inner probe's, half of them on the base.

    Args:
        probe: the detector to compare with itself.
        name: the name in the audit.
        mode: ``"difference"``; ``"ratio"`` and ``"log_ratio"`` for scores that are never negative.

    """

    needs_base = True

    def __init__(self, *, probe: Probe, name: str | None = None, mode: str = "difference") -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        self.probe = probe
        self.mode = mode
        self.name = name or f"{probe.name}_relative"
        self.direction = probe.direction
        self.needs_images = needs(probe, "images")
        self.evals_per_prompt = 2 * probe.evals_per_prompt

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Scores ``[N]``, float32.

        Raises:
            BadInputError: If the batch has no base.
            ValueError: For a ratio of scores below zero.

        """
        base = batch.require_base(self.name)
        scores, base_scores = self.probe(denoiser, batch), self.probe(base, batch.as_base())
        if self.mode != "difference" and min(scores.min(), base_scores.min()) < 0:
            raise ValueError(
                f"{self.name}: {self.probe.name} has scores below zero, of which no ratio says anything; use mode 'difference'"
            )
        return MODES[self.mode](scores, base_scores)
