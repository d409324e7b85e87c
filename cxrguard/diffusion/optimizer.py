"""The optimizer and its learning rate over the steps."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch.nn import Parameter

from cxrguard.diffusion.objective import rate_factor
from cxrguard.errors import CxrguardError

OPTIMIZERS = ("adamw", "adamw_8bit")


def build_optimizer(
    name: str, parameters: Iterable[Parameter], learning_rate: float, weight_decay: float, fused: bool = False
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019), or with its two moments in 8 bits (Dettmers et al., ICLR 2022).

    Args:
        name: ``adamw`` or ``adamw_8bit``.
        parameters: what is trained.
        learning_rate: of a step.
        weight_decay: decoupled from the gradient.
        fused: AdamW in one pass over the weights, which saves time. Not for mixed precision, which clips
            gradients before such a step could scale them back, nor for Opacus.

    Raises:
        CxrguardError: an unknown name, or bitsandbytes is not installed.

    """
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=fused or None)
    if name != "adamw_8bit":
        raise CxrguardError(f"model.module.optimizer={name}: must be one of {', '.join(OPTIMIZERS)}")
    try:
        import bitsandbytes
    except ImportError:
        raise CxrguardError("model.module.optimizer=adamw_8bit needs bitsandbytes; pip install 'cxrguard[8bit]'") from None
    optimizer: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(parameters, lr=learning_rate, weight_decay=weight_decay)
    return optimizer


def with_schedule(optimizer: torch.optim.Optimizer, warmup_steps: int, decay_steps: int) -> Any:
    """The optimizer with its :func:`~cxrguard.diffusion.objective.rate_factor`, as Lightning takes it; stepped every step."""
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(rate_factor, warmup=warmup_steps, decay=decay_steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
