"""Stop learning a sample at the timesteps where the model already knows it better than samples it has never seen."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.errors import CxrguardError
from cxrguard.mitigations.training.base import Seen
from cxrguard.mitigations.training.by_timestep import HeldoutByTimestep, lowest_share


class LossFloor:
    """Weight 0 for a sample whose loss has fallen below what held-out samples have at its timestep.

    Ishida et al. (ICML 2020, "Do we need zero training loss after achieving zero training error?") hold a *batch's* loss above one
    constant; here each sample is held above what is usual at its timestep.

    Args:
        fraction: of the held-out samples' (geometric) mean loss. None sets it from the held-out samples themselves, so that at most
            ``fpr`` of *their* losses lie below.
        fpr: see above.
        ascend: weight −1 rather than 0 below the floor, which drives the loss back up to it (Ishida's flooding).
        n_timesteps: of the training schedule.
        bins: of timesteps; see :class:`HeldoutByTimestep`.

    Raises:
        CxrguardError: ``fraction`` or ``fpr`` lies outside (0, 1).

    """

    name = "loss_floor"
    needs_text_noise_norm = False

    def __init__(
        self, *, fraction: float | None = None, fpr: float = 0.01, ascend: bool = False, n_timesteps: int = 1000, bins: int = 10
    ) -> None:
        check_shares(self.name, fraction=fraction, fpr=fpr)
        self.fraction, self.fpr, self.below = fraction, fpr, -1.0 if ascend else 0.0
        self.usual = HeldoutByTimestep(n_timesteps, bins)
        self.threshold: float | None = None

    def calibrate(self, heldout: Seen) -> None:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`."""
        self.usual.observe(heldout.losses, heldout.timesteps)
        self.threshold = lowest_share(self._height(heldout), self.fpr) if self.fraction is None else self.fraction

    def record(self, batch: Seen) -> None:
        """Nothing is remembered."""

    def weights(self, batch: Seen) -> Float[Tensor, " b"]:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`."""
        if self.threshold is None:
            return torch.ones(len(batch.losses))
        known = self._height(batch) < self.threshold
        return torch.where(known, self.below, 1.0)

    def _height(self, seen: Seen) -> Tensor:
        measure = self.usual.standardised if self.fraction is None else self.usual.ratio
        return measure(seen.losses, seen.timesteps)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`."""
        return {"usual": self.usual.state_dict(), "threshold": self.threshold}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.usual.load_state_dict(state["usual"])
        self.threshold = state["threshold"]


def check_shares(name: str, **shares: float | None) -> None:
    """Refuse what is no share.

    Raises:
        CxrguardError: one lies outside (0, 1).

    """
    for key, value in shares.items():
        if value is not None and not 0 < value < 1:
            raise CxrguardError(f"{name}.{key} must lie between 0 and 1, but is {value:g}")
