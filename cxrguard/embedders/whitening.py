"""PCA whitening: every direction that real images differ in counts alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_RANK_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Whitening:
    """y = Λ_k^(−1/2) U_kᵀ (x − μ), with U_k, Λ_k the k largest eigenpairs of the covariance (Jégou & Chum, ECCV 2012, sec. 3).

    Attributes:
        mean: μ, ``[D]``, float64.
        projection: U_k Λ_k^(−1/2), ``[D, k]``, float64.

    """

    mean: Tensor
    projection: Tensor

    def __call__(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Whitened features, of the same type as the features."""
        return ((features.double() - self.mean) @ self.projection).to(features.dtype)


def fit_whitening(features: Float[Tensor, "n d"], dims: int) -> Whitening:
    """Learn a whitening to at most ``dims`` directions; fewer where the features have no more (N images span N − 1).

    Eigenvectors are determined up to their sign; here the largest entry of each is positive, so that equal features give equal vectors.

    Raises:
        ValueError: ``dims`` is below 1, or the features do not differ.

    """
    if dims < 1:
        raise ValueError(f"dims must be at least 1, not {dims}")
    x = features.double()
    mean = x.mean(dim=0)
    centered = x - mean
    values, vectors = torch.linalg.eigh(centered.T @ centered / max(len(x) - 1, 1))
    values, vectors = values.flip(0)[:dims], vectors.flip(1)[:, :dims]
    rank = int((values > _RANK_TOLERANCE * values[0].clamp_min(torch.finfo(torch.float64).tiny)).sum())
    if len(x) < 2 or rank == 0:
        raise ValueError(f"a whitening needs images that differ; {len(x)} were given, with no difference between them")
    values, vectors = values[:rank], vectors[:, :rank]
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    return Whitening(mean, vectors * largest.sign() / values.sqrt())
