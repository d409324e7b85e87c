"""Hold back a sample, or a patient, that the model has known too well for several showings in a row."""

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
    """The last ``window`` values of each of many samples or patients, by id.

    A table of float32 that grows with the largest id: 44 bytes an id at a window of 8. With ``relative`` a mean is that of the last
    values less that of the first ones.
    """

    def __init__(self, window: int, relative: bool = False) -> None:
        self.window, self.relative = window, relative
        self.values = torch.zeros(0, window)
        self.first = torch.zeros(0)
        self.count = torch.zeros(0, dtype=torch.int64)

    def add(self, sample_ids: Int[Tensor, " b"], values: Float[Tensor, " b"]) -> None:
        """One value of each sample, in order; a sample may come twice."""
        self._grow(int(sample_ids.max()) + 1)
        for sample, value in zip(sample_ids.tolist(), values.tolist(), strict=True):
            seen = int(self.count[sample])
            self.values[sample, seen % self.window] = value
            if seen < self.window:
                self.first[sample] += value / self.window
            self.count[sample] += 1

    def means(self, sample_ids: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """See above; NaN for a sample that has not been seen ``window`` times, or twice as often where the first ones count."""
        full = self.count[sample_ids] >= (2 if self.relative else 1) * self.window
        means = self.values[sample_ids].mean(dim=1) - (self.first[sample_ids] if self.relative else 0.0)
        return torch.where(full, means, torch.nan)

    def _grow(self, n: int) -> None:
        more = n - len(self.count)
        if more > 0:
            self.values = torch.cat([self.values, torch.zeros(more, self.window)])
            self.first = torch.cat([self.first, torch.zeros(more)])
            self.count = torch.cat([self.count, torch.zeros(more, dtype=torch.int64)])

    def state_dict(self) -> dict[str, Tensor]:
        """The tables."""
        return {"values": self.values.clone(), "first": self.first.clone(), "count": self.count.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """See :meth:`state_dict`."""
        self.values, self.first, self.count = (state[name].clone() for name in ("values", "first", "count"))


class LossHistory:
    """Weight 0 for a sample whose losses over its last showings are lower than those of samples never trained on.

    One loss says little: it depends on the noise and on the timestep. Each loss is standardised by what held-out samples have at its
    timestep, and the mean over a sample's last ``window`` showings is compared with the same mean of the steering samples, which
    have as many losses each and are never trained on. That is loss-based membership inference (Yeom et al., CSF 2018; over several noises
    for diffusion: Carlini et al., USENIX Security 2023, section 5) turned on the trainer's own samples: what could be told apart is not
    learned further.

    With ``by="patient"`` a patient's showings count together, of the trained as of the steering ones, and all samples of a patient that
    is known too well are held back. What a data set has several times, copied, cropped or worded anew, is mostly of one patient: the
    evidence on it grows with every copy, as its memorization does, where a sample's own showings stay as few as those of any other. It is
    called ``patient_loss_history`` then, so that both can be asked for: a copy among a patient's many films does not show in their mean.

    With ``relative`` the mean of the first ``window`` showings is subtracted, of the trained and of the steering ones: an image that is
    easy for any model was so from the start, and is not taken for a memorized one (Watson et al., ICLR 2022, "On the importance of
    difficulty calibration in membership inference attacks").

    With hysteresis: who is held back comes again only when their mean lies among the steering samples' for good.

    Args:
        window: showings.
        fpr: share of the steering samples (patients) that may be held back by mistake.
        release: a sample comes back when no more than this share of the steering samples lies lower.
        by: ``sample`` or ``patient``.
        relative: to the first ``window`` showings; nobody is held back before the second.
        skip: calibrations before which nothing is remembered. In the first steps losses fall faster than the calibrations follow them, and
            a sample would seem known from the start.
        n_timesteps: of the training schedule.
        bins: of timesteps; see :class:`HeldoutByTimestep`.

    Raises:
        CxrguardError: a setting is out of range.

    """

    needs_text_noise_norm = False

    def __init__(
        self,
        *,
        window: int = 4,
        fpr: float = 0.01,
        release: float = 0.1,
        n_timesteps: int = 1000,
        bins: int = 10,
        by: str = "sample",
        relative: bool = False,
        skip: int = 0,
    ) -> None:
        if by not in ("sample", "patient"):
            raise CxrguardError(f"loss_history.by must be sample or patient, but is {by}")
        self.by_patient, self.name = by == "patient", "loss_history" if by == "sample" else "patient_loss_history"
        check_shares(self.name, fpr=fpr, release=release)
        if release < fpr or window < 1:
            raise CxrguardError(f"{self.name} needs a window of 1 at least and release >= fpr, not {window}, {release:g} and {fpr:g}")
        self.fpr, self.release = fpr, release
        self.usual = HeldoutByTimestep(n_timesteps, bins)
        self.trained, self.steering = History(window, relative), History(window, relative)
        self.held = torch.zeros(0, dtype=torch.bool)
        self.thresholds: list[float] | None = None
        self.skip = skip

    def calibrate(self, heldout: Seen) -> None:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`."""
        self.usual.observe(heldout.losses, heldout.timesteps)
        if self.skip > 0:
            self.skip -= 1
            return
        ids = self._ids(heldout)
        self.steering.add(ids, self.usual.standardised(heldout.losses, heldout.timesteps))
        means = self.steering.means(ids.unique())
        if bool(means.isfinite().any()):
            known = means[means.isfinite()]
            self.thresholds = [lowest_share(known, self.fpr), lowest_share(known, self.release)]

    def record(self, batch: Seen) -> None:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`."""
        if not self.usual.ready or self.skip > 0:
            return
        ids = self._ids(batch)
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
        return torch.where(self.held[self._ids(batch)], 0.0, 1.0)

    def _ids(self, seen: Seen) -> Tensor:
        """Whose showings count together."""
        if self.by_patient and seen.patient_ids is not None:
            return seen.patient_ids.cpu()
        return seen.sample_ids.cpu()

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`."""
        parts = {"usual": self.usual, "trained": self.trained, "steering": self.steering}
        states = {name: part.state_dict() for name, part in parts.items()}
        return states | {"held": self.held.clone(), "thresholds": self.thresholds, "skip": self.skip}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.usual.load_state_dict(state["usual"])
        self.trained.load_state_dict(state["trained"])
        self.steering.load_state_dict(state["steering"])
        self.held, self.thresholds, self.skip = state["held"].clone(), state["thresholds"], state["skip"]
