"""What everything outside ``diffusion/`` sees of a model: it predicts noise, and says how it was trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cxrguard.diffusion.attention import CrossAttentionRecord, record_cross_attention
from cxrguard.diffusion.layout import contiguous_layout


class Denoiser(Protocol):
    """A text-conditional noise predictor on a discrete diffusion schedule."""

    prediction_type: str
    alphas_cumprod: Tensor

    def predict_noise(self, latents: Tensor, timesteps: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        """ε(x_t, c): noise ``[B, C, h, w]`` for ``latents [B, C, h, w]``, ``timesteps [B]``, text ``[B, L, D]``."""
        ...

    def predict_noise_pair(
        self, latents: Tensor, timesteps: Tensor, encoder_hidden_states: Tensor, uncond_hidden_states: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(ε(x_t, c), ε(x_t, ∅)); ``uncond_hidden_states [1, L, D]`` is the empty prompt's."""
        ...

    def record_cross_attention(self) -> AbstractContextManager[CrossAttentionRecord]:
        """While it lasts, what the latest prediction attended to, ``[B, positions, L]`` a layer; of a pair only the text's."""
        ...

    def contiguous_layout(self) -> AbstractContextManager[None]:
        """While it lasts, predictions have forward-mode derivatives whatever the model's memory format."""
        ...


def velocity_to_noise(
    velocity: Float[Tensor, "b c h w"], latents: Float[Tensor, "b c h w"], alpha_bar: Float[Tensor, " b"]
) -> Float[Tensor, "b c h w"]:
    """ε = √ᾱ_t v + √(1 − ᾱ_t) x_t (Salimans and Ho 2022, section 4: v = √ᾱ ε − √(1 − ᾱ) x₀)."""
    alpha = alpha_bar[:, None, None, None]
    return alpha.sqrt() * velocity + (1 - alpha).sqrt() * latents


class UNetDenoiser:
    """A diffusers ``UNet2DConditionModel`` as a :class:`Denoiser`; epsilon and v-prediction.

    Args:
        unet: the model; it is called as it is (mode and weights are the caller's).
        alphas_cumprod: ᾱ_t of the training schedule, ``[T]``.
        prediction_type: ``"epsilon"`` or ``"v_prediction"``.

    """

    def __init__(self, unet: Any, alphas_cumprod: Tensor, prediction_type: str) -> None:
        if prediction_type not in ("epsilon", "v_prediction"):
            raise ValueError(f"prediction_type must be 'epsilon' or 'v_prediction', not {prediction_type!r}")
        self.unet = unet
        self.alphas_cumprod = alphas_cumprod
        self.prediction_type = prediction_type
        self._records: list[CrossAttentionRecord] = []

    def predict(self, latents: Tensor, timesteps: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        """The raw output of the model, of its own prediction type."""
        out: Tensor = self.unet(latents, timesteps, encoder_hidden_states=encoder_hidden_states, return_dict=False)[0]
        return out

    def predict_noise(
        self, latents: Float[Tensor, "b c h w"], timesteps: Int[Tensor, " b"], encoder_hidden_states: Float[Tensor, "b l d"]
    ) -> Float[Tensor, "b c h w"]:
        """See :meth:`Denoiser.predict_noise`."""
        out = self.predict(latents, timesteps, encoder_hidden_states)
        if self.prediction_type == "epsilon":
            return out
        alpha_bar = self.alphas_cumprod.to(latents.device, latents.dtype)[timesteps]
        return velocity_to_noise(out, latents, alpha_bar)

    def predict_noise_pair(
        self, latents: Tensor, timesteps: Tensor, encoder_hidden_states: Tensor, uncond_hidden_states: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(ε_text, ε_uncond) in one call; the batch is [uncond, text] as in diffusers."""
        states = torch.cat([uncond_hidden_states.expand_as(encoder_hidden_states), encoder_hidden_states])
        noise_pred = self.predict_noise(latents.repeat(2, 1, 1, 1), timesteps.repeat(2), states)
        noise_pred_uncond, noise_pred_text = noise_pred.chunk(2)
        for record in self._records:
            record.keep(slice(len(latents), None))
        return noise_pred_text, noise_pred_uncond

    def contiguous_layout(self) -> AbstractContextManager[None]:
        """See :func:`cxrguard.diffusion.layout.contiguous_layout`."""
        return contiguous_layout(self.unet)

    @contextmanager
    def record_cross_attention(self) -> Iterator[CrossAttentionRecord]:
        """See :meth:`Denoiser.record_cross_attention` and :func:`cxrguard.diffusion.attention.record_cross_attention`."""
        with record_cross_attention(self.unet) as record:
            self._records.append(record)
            try:
                yield record
            finally:
                self._records = [other for other in self._records if other is not record]
