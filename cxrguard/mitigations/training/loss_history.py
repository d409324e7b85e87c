"""Hold back a sample that the model has known too well for several showings in a row."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cxrguard.errors import CxrguardError
from cxrguard.mitigations.training.base import Seen
from cxrguard.mitigations.training.by_timestep import HeldoutByTimestep, lowest_share
from cxrguard.mitigations.training.loss_floor import check_shares


class History:
    """The last ``window`` values of each of many samples, by id.

    A table of float32 that grows with the largest id: 32 bytes a sample at a window of 8.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.values = torch.zeros(0, window)
        self.count = torch.zeros(0, dtype=torch.int64)

    def add(self, sample_ids: Int[Tensor, " b"], values: Float[Tensor, " b"]) -> None:
        """One value of each sample, in order; a sample may come twice."""
        self._grow(int(sample_ids.max()) + 1)
        for sample, value in zip(sample_ids.tolist(), values.tolist(), strict=True):
            self.values[sample, int(self.count[sample]) % self.window] = value
            self.count[sample] += 1

    def means(self, sample_ids: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Mean of the last values; NaN for a sample that has not been seen ``window`` times."""
        full = self.count[sample_ids] >= self.window
        return torch.where(full, self.values[sample_ids].mean(dim=1), torch.nan)

    def _grow(self, n: int) -> None:
        more = n - len(self.count)
        if more > 0:
            self.values = torch.cat([self.values, torch.zeros(more, self.window)])
            self.count = torch.cat([self.count, torch.zeros(more, dtype=torch.int64)])

    def state_dict(self) -> dict[str, Tensor]:
        """The tables."""
        return {"values": self.values.clone(), "count": self.count.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """See :meth:`state_dict`."""
        self.values, self.count = state["values"].clone(), state["count"].clone()


class LossHistory:
    """Weight 0 for a sample whose losses over its last showings are lower than those of samples never trained on.

    One loss says little: it depends on the noise and on the timestep. Each loss is standardised by what held-out samples have at its
    timestep, and the mean over a sample's last ``window`` showings is compared with the same mean of the steering samples, which
    have as many losses each and are never trained on. That is loss-based membership inference (Yeom et al., CSF 2018; over several noises
    for diffusion: Carlini et al., USENIX Security 2023, section 5) turned on the trainer's own samples: what could be told apart is not
    learned further.

    With hysteresis: a sample that is held back comes again only when its mean lies among the steering samples' for good.

    Args:
        window: showings.
        fpr: share of the steering samples that may be held back by mistake.
        release: a sample comes back when no more than this share of the steering samples lies lower.
        n_timesteps: of the training schedule.
        bins: of timesteps; see :class:`HeldoutByTimestep`.

    Raises:
        CxrguardError: a setting is out of range.

    """

    name = "loss_history"
    needs_text_noise_norm = False

    def __init__(self, *, window: int = 4, fpr: float = 0.01, release: float = 0.1, n_timesteps: int = 1000, bins: int = 10) -> None:
        check_shares(self.name, fpr=fpr, release=release)
        if release < fpr or window < 1:
            raise CxrguardError(f"{self.name} needs a window of 1 at least and release >= fpr, not {window}, {release:g} and {fpr:g}")
        self.fpr, self.release = fpr, release
        self.usual = HeldoutByTimestep(n_timesteps, bins)
        self.trained, self.steering = History(window), History(window)
        self.held = torch.zeros(0, dtype=torch.bool)
        self.thresholds: list[float] | None = None

    def calibrate(self, heldout: Seen) -> None:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`."""
        self.usual.observe(heldout.losses, heldout.timesteps)
        self.steering.add(heldout.sample_ids, self.usual.standardised(heldout.losses, heldout.timesteps))
        means = self.steering.means(heldout.sample_ids.unique())
        if bool(means.isfinite().any()):
            known = means[means.isfinite()]
            self.thresholds = [lowest_share(known, self.fpr), lowest_share(known, self.release)]

    def record(self, batch: Seen) -> None:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`."""
        if not self.usual.ready:
            return
        ids = batch.sample_ids.cpu()
        self.trained.add(ids, self.usual.standardised(batch.losses, batch.timesteps))
        self.held = torch.cat([self.held, torch.zeros(len(self.trained.count) - len(self.held), dtype=torch.bool)])
        if self.thresholds is not None:
            means = self.trained.means(ids)
            hold, release = self.thresholds
            self.held[ids] = (means < hold) | (self.held[ids] & (means < release))

    def weights(self, batch: Seen) -> Float[Tensor, " b"]:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`."""
        if self.thresholds is None or not len(self.held):
            return torch.ones(len(batch.losses))
        return torch.where(self.held[batch.sample_ids.cpu()], 0.0, 1.0)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`."""
        parts = {"usual": self.usual, "trained": self.trained, "steering": self.steering}
        states = {name: part.state_dict() for name, part in parts.items()}
        return states | {"held": self.held.clone(), "thresholds": self.thresholds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.usual.load_state_dict(state["usual"])
        self.trained.load_state_dict(state["trained"])
        self.steering.load_state_dict(state["steering"])
        self.held, self.thresholds = state["held"].clone(), state["thresholds"]
