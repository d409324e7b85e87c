"""What the text-conditional layers of a UNet look at: cross-attention probabilities, recorded beside the model's own computation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor

from cxrguard.errors import ModelError


@dataclass(frozen=True)
class CrossAttentionMap:
    """One layer's attention to the text.

    Attributes:
        name: the layer's name in the UNet.
        stage: ``"down"``, ``"mid"`` or ``"up"``.
        size: (h, w) of the layer's positions, row by row.
        probs: ``[B, h·w, L]``, the mean over heads; each position's row sums to 1.

    """

    name: str
    stage: str
    size: tuple[int, int]
    probs: Tensor


@dataclass
class CrossAttentionRecord:
    """The maps of the model's latest call, by layer name, in the order in which the layers ran."""

    maps: dict[str, CrossAttentionMap] = field(default_factory=dict)
    _latents: tuple[int, int] = (0, 0)

    def keep(self, rows: slice) -> None:
        """Forget all other rows of the batch."""
        self.maps = {name: replace(m, probs=m.probs[rows]) for name, m in self.maps.items()}

    def _start(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        latents = args[0] if args else kwargs["sample"]
        self.maps, self._latents = {}, (latents.shape[-2], latents.shape[-1])

    def _add(self, name: str, layer: Attention, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = dict(zip(("hidden_states", "encoder_hidden_states", "attention_mask"), args, strict=False)) | kwargs
        if given.get("encoder_hidden_states") is None:
            return
        probs = attention_probs(layer, given["hidden_states"], given["encoder_hidden_states"], given.get("attention_mask"))
        size = _layer_size(self._latents, probs.shape[1], name)
        self.maps[name] = CrossAttentionMap(name, name.partition(".")[0].partition("_")[0], size, probs)


@contextmanager
def record_cross_attention(unet: Any) -> Iterator[CrossAttentionRecord]:
    """Record the cross-attention of a diffusers UNet while the context lasts.

    The layers are watched by hooks and keep their processors, of whatever kind: what the model computes is the same to the
    last bit, and nothing is left behind afterwards, also on an error.

    Raises:
        ModelError: If the UNet has no cross-attention.

    """
    layers = {name: m for name, m in unet.named_modules() if isinstance(m, Attention) and m.is_cross_attention}
    if not layers:
        raise ModelError(f"the model ({type(unet).__name__}) has no cross-attention layers to record")
    record = CrossAttentionRecord()
    hooks = [unet.register_forward_pre_hook(record._start, with_kwargs=True)]
    try:
        for name, layer in layers.items():
            hooks.append(layer.register_forward_pre_hook(partial(record._add, name), with_kwargs=True))
        yield record
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def attention_probs(
    layer: Attention, hidden_states: Float[Tensor, "b q c"], encoder_hidden_states: Float[Tensor, "b l d"], attention_mask: Any = None
) -> Float[Tensor, "b q l"]:
    """softmax(QKᵀ / √d) of a layer, the mean over its heads, in float32 or better; a head at a time, for they are large.

    Raises:
        ModelError: For a masked layer; no pipeline that is supported has one.

    """
    if attention_mask is not None:
        raise ModelError("cross-attention under a mask cannot be recorded; encode prompts without an attention mask")
    if layer.norm_cross:
        encoder_hidden_states = layer.norm_encoder_hidden_states(encoder_hidden_states)
    query, key = _heads(layer, layer.to_q(hidden_states), layer.norm_q), _heads(layer, layer.to_k(encoder_hidden_states), layer.norm_k)
    with torch.autocast(query.device.type, enabled=False):
        total: Tensor = query.new_zeros(query.shape[0], query.shape[2], key.shape[2])
        for q, k in zip(query.unbind(dim=1), key.unbind(dim=1), strict=True):
            total += (layer.scale * q @ k.transpose(-1, -2)).softmax(dim=-1)
        mean: Tensor = total / layer.heads
    return mean


def _heads(layer: Attention, projected: Tensor, norm: Any) -> Tensor:
    """``[B, X, heads·d]`` to ``[B, heads, X, d]``."""
    split = projected.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
    split = split if norm is None else norm(split)
    ready: Tensor = split.to(torch.promote_types(split.dtype, torch.float32))
    return ready


def _layer_size(latents: tuple[int, int], positions: int, name: str) -> tuple[int, int]:
    """(h, w) of a layer with so many positions: a UNet halves both sides of the latents, rounding up."""
    height, width = latents
    while height * width > positions:
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != positions:
        raise ModelError(f"layer {name} has {positions} positions, which is no halving of latents of {latents[0]} × {latents[1]}")
    return height, width
