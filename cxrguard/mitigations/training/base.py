"""What a training-time mitigation sees of a batch, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """Per-sample figures of a batch, of training or of steering samples.

    Nothing in it says which sample is a canary: a sample is an id, and all ids are treated alike.

    Attributes:
        sample_ids: ``[B]``, integers; of steering samples numbers of their own.
        timesteps: ``[B]``, integers.
        losses: ``[B]`` denoising losses, not weighted by anything.
        text_noise_norms: ``[B]``, ‖ε(x_t, c) − ε(x_t, ∅)‖₂ in the training step; None where nobody asked for it.
        patient_ids: ``[B]``, integers that the samples of a patient share; None where it is not known whose they are.

    """

    sample_ids: Tensor
    timesteps: Tensor
    losses: Tensor
    text_noise_norms: Tensor | None = None
    patient_ids: Tensor | None = None

    @staticmethod
    def join(parts: Sequence[Seen]) -> Seen:
        """One batch after the other."""
        known = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Seen)}
        return Seen(**{name: torch.cat(values) for name, values in known.items() if values[0] is not None})


class LossMitigation(Protocol):
    """Decides how much each sample of a step counts.

    Attributes:
        name: as it stands in the audit.

    """

    name: str

    @property
    def needs_text_noise_norm(self) -> bool:
        """Whether :attr:`Seen.text_noise_norms` must be there, which costs one more prediction a sample."""
        ...

    def calibrate(self, heldout: Seen) -> None:
        """Set thresholds from samples that are never trained on and never judged; called again as the training goes on."""
        ...

    def record(self, batch: Seen) -> None:
        """Take note of what a step saw: the global batch of all processes, in its order."""
        ...

    def weights(self, batch: Seen) -> Tensor:
        """``[B]`` in [0, 1], the factor of each sample's loss; 1 for all until it is calibrated."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that it has learned, in plain types and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        ...
