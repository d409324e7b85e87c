"""Wen's training-time mitigation: skip a sample whose prompt steers the model more than prompts usually do."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.errors import CxrguardError
from cxrguard.mitigations.training.base import Seen
from cxrguard.mitigations.training.by_timestep import HeldoutByTimestep, lowest_share
from cxrguard.mitigations.training.loss_floor import check_shares


class LossSkip:
    """Weight 0 for a sample whose ‖ε(x_t, c) − ε(x_t, ∅)‖₂ is extreme for its timestep.

    Wen et al. (ICLR 2024, section 4.2) drop samples above one constant (2 in their script), whatever the timestep; the norm differs
    manifold between timesteps, so here it is compared with what held-out samples have at the same one. A sample whose caption is
    dropped has no difference and is never skipped by it. Costs one more prediction a sample, without a gradient.

    Args:
        fpr: share of held-out samples that may lie above the threshold.
        n_timesteps: of the training schedule.
        bins: of timesteps; see :class:`HeldoutByTimestep`.

    Raises:
        CxrguardError: ``fpr`` lies outside (0, 1).

    """

    name = "loss_skip"
    needs_text_noise_norm = True

    def __init__(self, *, fpr: float = 0.01, n_timesteps: int = 1000, bins: int = 10) -> None:
        check_shares(self.name, fpr=fpr)
        self.fpr = fpr
        self.usual = HeldoutByTimestep(n_timesteps, bins)
        self.threshold: float | None = None

    def calibrate(self, heldout: Seen) -> None:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`; dropped captions do not count."""
        norms, timesteps = _with_caption(heldout)
        if len(norms):
            self.usual.observe(norms, timesteps)
            self.threshold = -lowest_share(-self.usual.standardised(norms, timesteps), self.fpr)

    def record(self, batch: Seen) -> None:
        """Nothing is remembered."""

    def weights(self, batch: Seen) -> Float[Tensor, " b"]:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`."""
        if self.threshold is None:
            return torch.ones(len(batch.losses))
        extreme = self.usual.standardised(_norms(batch), batch.timesteps) > self.threshold
        return torch.where(extreme, 0.0, 1.0)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`."""
        return {"usual": self.usual.state_dict(), "threshold": self.threshold}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.usual.load_state_dict(state["usual"])
        self.threshold = state["threshold"]


def _norms(seen: Seen) -> Tensor:
    if seen.text_noise_norms is None:
        raise CxrguardError("loss_skip needs the text noise norm of each sample; ask for it with needs_text_noise_norm")
    return seen.text_noise_norms


def _with_caption(seen: Seen) -> tuple[Tensor, Tensor]:
    norms = _norms(seen)
    there = norms > 0
    return norms[there], seen.timesteps[there]
