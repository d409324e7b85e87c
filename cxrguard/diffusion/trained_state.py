"""What of a module goes into a checkpoint: the weights that are trained, raw and averaged."""

from __future__ import annotations

from typing import Any

from diffusers.training_utils import EMAModel
from torch import nn

from cxrguard.errors import CxrguardError


def keep_trained(checkpoint: dict[str, Any], module: nn.Module, ema: EMAModel | None) -> None:
    """Leave the frozen weights out of ``checkpoint``, and add the averaged ones."""
    names = _trained_names(module)
    checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if name in names}
    if ema:
        checkpoint["ema"] = ema.state_dict()


def check_trained(checkpoint: dict[str, Any], module: nn.Module, ema: EMAModel | None) -> None:
    """Refuse a checkpoint that the module cannot go on from.

    Raises:
        CxrguardError: it is of other trained parts, or without averaged weights.

    """
    if set(checkpoint["state_dict"]) != _trained_names(module):
        raise CxrguardError(
            "the checkpoint was written with other parts in training; give the same model, model.module.unet, "
            "model.module.text_encoder and model.module.lora_rank as then, or start without ckpt_path"
        )
    if ema and "ema" not in checkpoint:
        raise CxrguardError("the checkpoint holds no averaged weights; set model.module.ema_decay=0 as when it was written")


def _trained_names(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}
