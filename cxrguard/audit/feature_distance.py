"""How far generated images are from real ones: kernel distance of their features, which is unbiased at small numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrguard.audit.resampling import Weights, cluster_ids, draw_clusters, percentiles, ratio

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


def kernel_distance(
    generated: Floats, real: Floats, generated_clusters: Sequence[object], real_clusters: Sequence[object], seed: int = 0, n: int = 1000
) -> dict[str, Any]:
    """The squared maximum mean discrepancy under the cubic kernel (Bińkowski et al., ICLR 2018, section 4: KID).

    MMD² = mean k(x, x') + mean k(y, y') − 2 mean k(x, y) with k(a, b) = (aᵀb / D + 1)³, the first two means over pairs of different
    clusters: samples of one prompt, and images of one patient, are alike.

    Args:
        generated: features ``[N, D]``, scaled as the real ones are.
        real: features ``[M, D]``.
        generated_clusters: the prompt of each generated image.
        real_clusters: the patient of each real one.
        seed: of the bootstrap over clusters.
        n: its draws.

    Returns:
        ``kid`` (0 in the mean where both come from one distribution, then also below it; lower is better) with its 95 % interval
        ``kid_ci``. Both null with a ``reason`` where a side has fewer than two clusters.

    """
    ids = cluster_ids(generated_clusters), cluster_ids(real_clusters)
    if min(np.unique(each).size for each in ids) < 2:
        return {"kid": None, "kid_ci": None, "reason": "a distance needs images of two prompts and of two patients"}
    within = [(_kernel(x, x), (each[:, None] != each[None, :]).astype(np.float64)) for x, each in ((generated, ids[0]), (real, ids[1]))]
    across = _kernel(generated, real)

    def figure(a: Weights, b: Weights) -> Weights:
        spread = [ratio(_sum(w, kernel * apart, w), _sum(w, apart, w)) for w, (kernel, apart) in zip((a, b), within, strict=True)]
        return np.asarray(spread[0] + spread[1] - 2 * _sum(a, across, b) / (a.sum(axis=1) * b.sum(axis=1)))

    generator = np.random.default_rng(seed)

    def draw(size: int) -> Weights:
        once = np.ones(size, dtype=np.int64)
        return figure(draw_clusters(ids[0], once, generator), draw_clusters(ids[1], once, generator))

    kid = float(figure(np.ones((1, len(generated))), np.ones((1, len(real))))[0])
    interval = percentiles(draw, n) if n else None
    return {"kid": kid, "kid_ci": None if interval is None else list(interval), "reason": None}


def _kernel(a: Floats, b: Floats) -> Floats:
    kernel: Floats = (a @ b.T / a.shape[1] + 1) ** 3
    return kernel


def _sum(left: Weights, matrix: Floats, right: Weights) -> Weights:
    """Σ_ij left_i matrix_ij right_j of each draw, ``[B]``."""
    total: Weights = np.einsum("bi,bi->b", left @ matrix, right)
    return total
