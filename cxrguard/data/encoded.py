"""Latents of images and hidden states of prompts by way of the cache, and images as the encoders want them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxrguard.data.cache import Cache, Produce, StoredRows
from cxrguard.diffusion.encoding import encode_images, encode_prompts
from cxrguard.diffusion.fingerprint import text_fingerprint, vae_fingerprint
from cxrguard.diffusion.loading import PipelineParts
from cxrguard.rows import LazyRows, batches

# An image's last bit may depend on how large its batch is (on a CPU below 22), never on what else is in it.
_IMAGES_A_BATCH, _PROMPTS_A_BATCH = 32, 64


def to_pixel_values(pixels: Sequence[NDArray[Any]]) -> Tensor:
    """uint8 ``[H, W]`` images as float ``[N, 1, H, W]`` in [-1, 1]."""
    return torch.from_numpy(np.stack(list(pixels))).float()[:, None] / 127.5 - 1


class ImageRows(LazyRows):
    """Images as :func:`to_pixel_values` makes them, when they are asked for.

    Args:
        pixels: at least one uint8 ``[H, W]``.

    """

    def __init__(self, pixels: Sequence[NDArray[Any]]) -> None:
        self._pixels, self.shape = pixels, (len(pixels), 1, *pixels[0].shape)

    def read(self, indices: Sequence[int]) -> Tensor:
        """See :meth:`~cxrguard.rows.LazyRows.read`."""
        return to_pixel_values([self._pixels[i] for i in indices]) if len(indices) else torch.zeros(0, *self.shape[1:])


@dataclass(frozen=True)
class CachedEncoder:
    """The VAE and the text encoder of a pipeline, behind a cache. Make another when one of them has changed."""

    parts: PipelineParts
    cache: Cache

    @cached_property
    def _vae(self) -> str:
        return vae_fingerprint(self.parts)

    @cached_property
    def _text(self) -> str:
        return text_fingerprint(self.parts)

    def latents(self, pixels: Sequence[NDArray[Any]]) -> StoredRows:
        """Scaled latents ``[N, C, h, w]`` of uint8 images ``[H, W]``; see :func:`~cxrguard.diffusion.encoding.encode_images`."""

        def encode(items: Sequence[int]) -> Tensor:
            return encode_images(self.parts, to_pixel_values([pixels[i] for i in items]).expand(-1, 3, -1, -1))

        contents = (np.ascontiguousarray(image) for image in pixels)
        produce = _in_batches(encode, _IMAGES_A_BATCH)
        return self.cache.rows("latents", self._vae, contents, produce, what="encoding images")

    def states(self, prompts: Sequence[str]) -> StoredRows:
        """Hidden states ``[N, L, D]``; see :func:`~cxrguard.diffusion.encoding.encode_prompts`. Equal prompts share a row."""

        def encode(items: Sequence[int]) -> Tensor:
            return encode_prompts(self.parts, [prompts[i] for i in items])

        contents = (prompt.encode("utf-8", "surrogatepass") for prompt in prompts)
        produce = _in_batches(encode, _PROMPTS_A_BATCH)
        return self.cache.rows("text", self._text, contents, produce, what="encoding prompts")


def _in_batches(encode: Callable[[Sequence[int]], Tensor], size: int) -> Produce:
    """Encodes a batch at a time, in order."""

    def produce(items: list[int]) -> Iterator[tuple[list[int], NDArray[Any]]]:
        for some in batches(items, size):
            yield list(some), encode(some).float().cpu().numpy()

    return produce
