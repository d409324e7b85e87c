"""What an embedder is, and what all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from cxrguard.rows import Rows


class Embedder(Protocol):
    """Images to vectors in which a copy lies near to its original.

    Attributes:
        name: as in ``conf/embedder``.

    """

    name: str

    def fit(self, images: Float[Tensor, "m 1 h w"] | Rows) -> Self:
        """Learn what the vectors need from *real* images, without labels; most embedders learn nothing."""
        ...

    def __call__(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n d"]:
        """Embed grey images in [−1, 1]; float32, on the CPU."""
        ...

    def features(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n d"]:
        """What the network makes of such images before anything is learned from a run's own; float32, on the CPU."""
        ...

    def similarity(self, a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """Every vector of ``a`` with every one of ``b``; higher means more alike."""
        ...


def cosine_similarity(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """⟨a_i, b_j⟩ / (‖a_i‖ ‖b_j‖). Range [−1, 1]; higher means more alike. A zero vector is like nothing: 0."""
    return normalize(a, dim=1) @ normalize(b, dim=1).T


class FrozenEmbedder(ABC):
    """An embedder whose network stays as it is, compared by cosine; it learns nothing unless its class says so.

    Subclasses say how one batch is embedded.

    Args:
        batch_size: images at once; the vectors do not depend on it.
        device: where the network runs.

    """

    name: str

    def __init__(self, *, batch_size: int = 32, device: str = "cpu") -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.batch_size, self.device = batch_size, torch.device(device)

    def fit(self, images: Float[Tensor, "m 1 h w"] | Rows) -> Self:
        """Nothing is learned."""
        return self

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n d"]:
        """Embed grey images in [−1, 1]; float32, on the CPU.

        Raises:
            TypeError: If the images are not floating point.
            ValueError: If they have another shape, there is none, or they lie outside [−1, 1].

        """
        check_images(images)
        return torch.cat([self._embed(part.float().to(self.device)).float().cpu() for part in images.split(self.batch_size)])

    def features(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n d"]:
        """As :meth:`__call__`, where nothing is learned."""
        return self(images)

    def similarity(self, a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """See :func:`cosine_similarity`."""
        return cosine_similarity(a, b)

    @abstractmethod
    def _embed(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n d"]:
        """One batch, on the network's device, in [−1, 1]."""


def check_images(images: Tensor) -> None:
    """Refuse what would be embedded without a complaint and mean nothing; see :meth:`FrozenEmbedder.__call__`."""
    if not images.is_floating_point():
        raise TypeError(f"images must be floating point in [-1, 1], not {images.dtype}")
    if images.ndim != 4 or images.shape[1] != 1 or len(images) == 0:
        raise ValueError(f"images must be [N, 1, H, W] with N at least 1, not {list(images.shape)}")
    if not bool((images.abs() <= 1.001).all()):  # also False for NaN
        raise ValueError("images must lie in [-1, 1]; these do not, or are not finite")


def resized(images: Float[Tensor, "n 1 h w"], size: int, mode: str = "bilinear") -> Float[Tensor, "n 1 s s"]:
    """The whole image, antialiased where it shrinks, kept within [−1, 1] (bicubic overshoots)."""
    if tuple(images.shape[-2:]) == (size, size):
        return images
    return interpolate(images, (size, size), mode=mode, antialias=True).clamp(-1, 1)


def standardized(images: Float[Tensor, "n 1 h w"], mean: list[float], std: list[float]) -> Float[Tensor, "n 3 h w"]:
    """[−1, 1] grey to three channels of ((x + 1) / 2 − mean) / std."""
    shift, scale = (torch.tensor(v, device=images.device).reshape(1, 3, 1, 1) for v in (mean, std))
    return ((images + 1) / 2 - shift) / scale
