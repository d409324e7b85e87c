"""What all processes together see of a step."""

from __future__ import annotations

from dataclasses import fields

import pytorch_lightning as pl
from torch import Tensor

from cxrguard.mitigations.training.base import Seen


def of_everyone(seen: Seen, module: pl.LightningModule) -> Seen:
    """The global batch of all processes, in the order that one process would have it."""
    if module._trainer is None or module.trainer.world_size == 1:
        return seen
    known: dict[str, Tensor] = {field.name: value for field in fields(seen) if (value := getattr(seen, field.name)) is not None}
    return Seen(**{name: module.all_gather(part).transpose(0, 1).flatten() for name, part in known.items()})  # type: ignore[union-attr]
