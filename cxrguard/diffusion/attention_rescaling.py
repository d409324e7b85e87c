"""A denoiser whose image positions look at some tokens more, and at others not at all; the model itself stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from jaxtyping import Bool, Float
from torch import Tensor

from cxrguard.diffusion.attention import CrossAttentionRecord
from cxrguard.diffusion.denoiser import Denoiser, UNetDenoiser
from cxrguard.errors import ModelError


def rescale_logits(
    logits: Float[Tensor, "b heads q l"], raised: Bool[Tensor, "b l"], hidden: Bool[Tensor, "b l"], factor: float
) -> Float[Tensor, "b heads q l"]:
    """Logits z → z + (factor − 1)·|z| at ``raised`` tokens, −∞ at ``hidden`` ones.

    For z ≥ 0 it is the published factor·z. A negative logit times a factor above 1 would fall and take attention away from the token
    that is to get more; here it rises by as much as its positive twin would.
    """
    lifted = torch.where(raised[:, None, None], logits + (factor - 1) * logits.abs(), logits)
    return lifted.masked_fill(hidden[:, None, None], float("-inf"))


class RescaledAttention:
    """A :class:`Denoiser` with rescaled cross-attention under text; what it predicts without text is the model's own.

    Args:
        denoiser: a UNet with plain cross-attention layers.
        raised: ``[N, L]``, tokens that get more attention; a prediction is asked for these N samples, in this order.
        hidden: ``[N, L]``, tokens that get none; each sample keeps one at least.
        factor: of :func:`rescale_logits`.

    Raises:
        ModelError: If the denoiser has no cross-attention layers that can be rescaled.
        ValueError: If a sample would have no token left.

    """

    def __init__(self, denoiser: Denoiser, raised: Bool[Tensor, "n l"], hidden: Bool[Tensor, "n l"], factor: float) -> None:
        if not isinstance(denoiser, UNetDenoiser):
            raise ModelError(f"the attention of a {type(denoiser).__name__} cannot be rescaled; a UNet with cross-attention is needed")
        if bool(hidden.all(dim=1).any()):
            raise ValueError("a sample would have no token left to look at")
        self._inner, self._layers = denoiser, _layers(denoiser.unet)
        self._processor = _Processor(raised, hidden, factor)
        self.prediction_type, self.alphas_cumprod = denoiser.prediction_type, denoiser.alphas_cumprod

    def predict_noise(
        self, latents: Float[Tensor, "n c h w"], timesteps: Tensor, encoder_hidden_states: Float[Tensor, "n l d"]
    ) -> Float[Tensor, "n c h w"]:
        """ε(x_t, c) under rescaled attention."""
        with self._rescaled():
            return self._inner.predict_noise(latents, timesteps, encoder_hidden_states)

    def predict_noise_pair(
        self, latents: Tensor, timesteps: Tensor, encoder_hidden_states: Tensor, uncond_hidden_states: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(ε(x_t, c) under rescaled attention, ε(x_t, ∅) as the model has it)."""
        uncond = self._inner.predict_noise(latents, timesteps, uncond_hidden_states.expand_as(encoder_hidden_states))
        return self.predict_noise(latents, timesteps, encoder_hidden_states), uncond

    def record_cross_attention(self) -> AbstractContextManager[CrossAttentionRecord]:
        """Not to be had: what is recorded would be the attention before it is rescaled.

        Raises:
            ModelError: Always.

        """
        raise ModelError("rescaled cross-attention cannot be recorded; leave out the detectors that look at attention")

    def contiguous_layout(self) -> AbstractContextManager[None]:
        """See :meth:`Denoiser.contiguous_layout`."""
        return self._inner.contiguous_layout()

    @contextmanager
    def _rescaled(self) -> Iterator[None]:
        before = [layer.processor for layer in self._layers]
        try:
            for layer in self._layers:
                layer.processor = self._processor
            yield
        finally:
            for layer, processor in zip(self._layers, before, strict=True):
                layer.processor = processor


def _layers(unet: Any) -> list[Attention]:
    layers = [m for m in unet.modules() if isinstance(m, Attention) and m.is_cross_attention]
    odd = [m for m in layers if m.group_norm is not None or m.spatial_norm is not None or m.added_kv_proj_dim is not None]
    if odd or not layers:
        raise ModelError(f"the model ({type(unet).__name__}) has no plain cross-attention layers, whose attention could be rescaled")
    return layers


class _Processor:
    """Attention as diffusers' own processor has it, with :func:`rescale_logits` before the softmax."""

    def __init__(self, raised: Tensor, hidden: Tensor, factor: float) -> None:
        self._raised, self._hidden, self._factor = raised, hidden, factor

    def __call__(self, layer: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask: Any = None) -> Tensor:
        if attention_mask is not None:
            raise ModelError("cross-attention under a mask cannot be rescaled; encode prompts without an attention mask")
        text = layer.norm_encoder_hidden_states(encoder_hidden_states) if layer.norm_cross else encoder_hidden_states
        query, key, value = (
            projected.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
            for projected in (layer.to_q(hidden_states), layer.to_k(text), layer.to_v(text))
        )
        query, key = (part if norm is None else norm(part) for part, norm in ((query, layer.norm_q), (key, layer.norm_k)))
        logits = layer.scale * query.float() @ key.float().transpose(-1, -2)
        probs = rescale_logits(logits, self._raised.to(logits.device), self._hidden.to(logits.device), self._factor).softmax(dim=-1)
        mixed = (probs.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        out: Tensor = layer.to_out[1](layer.to_out[0](mixed))
        out = out + hidden_states if layer.residual_connection else out
        scaled: Tensor = out / layer.rescale_output_factor
        return scaled
