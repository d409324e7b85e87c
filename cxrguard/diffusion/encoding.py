"""Images to latents and prompts to hidden states, just as the exported pipeline will call the same parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cxrguard.diffusion.loading import PipelineParts
from cxrguard.probes.tokens import TokenLayout


def tokenize(tokenizer: Any, prompts: Sequence[str]) -> Int[Tensor, "n l"]:
    """Token ids, padded and cut to the tokenizer's own length."""
    length = tokenizer.model_max_length
    ids: Tensor = tokenizer(list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids
    return ids


def token_layout(tokenizer: Any, prompts: Sequence[str]) -> TokenLayout:
    """Where the prompts' own tokens lie in what :func:`tokenize` gives; the end token is the last one before the padding.

    That is CLIP's first EOS and BERT's ``[SEP]``, whatever the length and whatever pads.
    """
    length = tokenizer.model_max_length
    given = tokenizer(
        list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt", return_special_tokens_mask=True
    )
    end = given.attention_mask.sum(dim=1) - 1
    own = (given.special_tokens_mask == 0) & (torch.arange(length) < end[:, None])
    begin = torch.where(own.any(dim=1), own.int().argmax(dim=1), end)
    return TokenLayout(begin, end, length)


def are_cut(tokenizer: Any, prompts: Sequence[str]) -> list[bool]:
    """Which prompts are longer than the encoder takes, and are cut by :func:`tokenize`."""
    ids = tokenizer(list(prompts), verbose=False).input_ids if prompts else []  # a tokenizer fails on none
    return [len(each) > tokenizer.model_max_length for each in ids]


@torch.no_grad()
def encode_prompts(parts: PipelineParts, prompts: Sequence[str], batch_size: int = 64) -> Float[Tensor, "n l d"]:
    """Last hidden states; no attention mask, since ``StableDiffusionPipeline`` passes none to most encoders."""
    device = next(parts.text_encoder.parameters()).device
    states = [parts.text_encoder(ids.to(device))[0] for ids in tokenize(parts.tokenizer, prompts).split(batch_size)]
    return torch.cat(states)


@torch.no_grad()
def encode_images(parts: PipelineParts, pixel_values: Float[Tensor, "n 3 h w"], batch_size: int = 32) -> Float[Tensor, "n c h8 w8"]:
    """Scaled latents, the posterior's mode: the encoder's own spread is far below the diffusion's."""
    device = next(parts.vae.parameters()).device
    latents = [_latents(parts.vae.encode(part.to(device))) for part in pixel_values.split(batch_size)]
    scaled: Tensor = torch.cat(latents) * parts.vae.config.scaling_factor
    return scaled


def _latents(encoded: Any) -> Tensor:
    """What a VAE's ``encode`` gives; tiny ones have no posterior."""
    latents: Tensor = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
    return latents


@torch.no_grad()
def decode_latents(parts: PipelineParts, latents: Float[Tensor, "n c h8 w8"], batch_size: int = 64) -> Float[Tensor, "n 1 h w"]:
    """Gray images in [-1, 1]: the mean over the decoder's three channels, each cut to the range as the pipeline does."""
    device = next(parts.vae.parameters()).device
    out = [
        parts.vae.decode(part.to(device) / parts.vae.config.scaling_factor).sample.clamp(-1, 1).mean(1, keepdim=True)
        for part in latents.split(batch_size)
    ]
    return torch.cat(out)
