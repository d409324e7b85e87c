"""Several mitigations at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.errors import CxrguardError
from cxrguard.mitigations.training.base import LossMitigation, Seen


class Combined:
    """Each sample counts as its strictest mitigation says; counts what each holds back, since the last look.

    Args:
        parts: the mitigations, of different names.

    Raises:
        CxrguardError: two have one name.

    """

    name = "combined"

    def __init__(self, parts: Sequence[LossMitigation]) -> None:
        self.parts = {part.name: part for part in parts}
        if len(self.parts) != len(parts):
            raise CxrguardError("two mitigations of a guard have the same name")
        self.held_back = dict.fromkeys(self.parts, 0)
        self.samples = 0

    @property
    def needs_text_noise_norm(self) -> bool:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`."""
        return any(part.needs_text_noise_norm for part in self.parts.values())

    def calibrate(self, heldout: Seen) -> None:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`."""
        for part in self.parts.values():
            part.calibrate(heldout)

    def record(self, batch: Seen) -> None:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`; counts over all processes, so that all count alike."""
        self.samples += len(batch.losses)
        for name, part in self.parts.items():
            part.record(batch)
            self.held_back[name] += int((part.weights(batch) <= 0).sum())

    def weights(self, batch: Seen) -> Float[Tensor, " b"]:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`."""
        if not self.parts:
            return torch.ones(len(batch.losses))
        return torch.stack([part.weights(batch) for part in self.parts.values()]).amin(dim=0)

    def counted(self) -> dict[str, float]:
        """The share of samples that each part held back since the last call."""
        shares = {name: count / max(self.samples, 1) for name, count in self.held_back.items()}
        self.held_back, self.samples = dict.fromkeys(self.parts, 0), 0
        return shares

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~cxrguard.mitigations.training.base.LossMitigation`."""
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        return {"parts": parts, "held_back": dict(self.held_back), "samples": self.samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`state_dict`.

        Raises:
            CxrguardError: the state is of other mitigations.

        """
        if set(state["parts"]) != set(self.parts):
            raise CxrguardError("the checkpoint was written with other mitigations; give the guard of then, or start without ckpt_path")
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        self.held_back, self.samples = dict(state["held_back"]), state["samples"]
