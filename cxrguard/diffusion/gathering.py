"""What all processes together see of a step."""

from __future__ import annotations

import pytorch_lightning as pl
from torch import Tensor

from cxrguard.mitigations.training.base import Seen


def of_everyone(seen: Seen, module: pl.LightningModule) -> Seen:
    """The global batch of all processes, in the order that one process would have it."""
    if module._trainer is None or module.trainer.world_size == 1:
        return seen
    parts = [seen.sample_ids, seen.timesteps, seen.losses, *([] if seen.text_noise_norms is None else [seen.text_noise_norms])]
    gathered: list[Tensor] = [module.all_gather(part).transpose(0, 1).flatten() for part in parts]  # type: ignore[union-attr]
    return Seen(*gathered)
