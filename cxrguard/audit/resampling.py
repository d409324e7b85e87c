"""Bootstrap draws as weights: how often each score counts in a draw, and the ROC area under such weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cxrguard.audit.statistics import Scores

BLOCK = 100  # draws at once: memory stays flat, whatever their number
Weights = NDArray[np.float64]


def cluster_ids(clusters: Sequence[object]) -> NDArray[np.int64]:
    """Each score's cluster as 0, 1, …, in order of first appearance."""
    numbers: dict[object, int] = {}
    return np.asarray([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)


def draw_clusters(ids: NDArray[np.int64], times: Sequence[int] | NDArray[np.int64], generator: np.random.Generator) -> Weights:
    """How often each score counts when as many clusters are drawn, with replacement, as there are.

    Args:
        ids: each score's cluster, 0 to G − 1, ``[N]``.
        times: in each of ``B`` draws, how often the G clusters are drawn anew; 1 in a plain bootstrap, 0 leaves them out.
        generator: of the draws.

    Returns:
        Weights ``[B, N]``; the scores of a cluster always have the same.

    """
    n = int(ids.max()) + 1 if ids.size else 0
    if n == 0:
        return np.zeros((len(times), 0))
    counts = generator.multinomial(np.asarray(times) * n, np.full(n, 1.0 / n))
    weights: Weights = counts[:, ids].astype(np.float64)
    return weights


def weighted_wins(positives: Scores, negatives: Scores, pos_weights: Weights, neg_weights: Weights) -> Weights:
    """Weighted count of the pairs that a positive wins, a tie counting half, ``[B]``; see :func:`weighted_auc`."""
    order = np.argsort(negatives, kind="stable")
    ordered = negatives[order]
    below, up_to = (np.searchsorted(ordered, positives, side=side) for side in ("left", "right"))
    passed = np.concatenate([np.zeros((len(neg_weights), 1)), np.cumsum(neg_weights[:, order], axis=1)], axis=1)
    wins: Weights = (pos_weights * (passed[:, below] + passed[:, up_to])).sum(axis=1) / 2
    return wins


def weighted_auc(positives: Scores, negatives: Scores, pos_weights: Weights, neg_weights: Weights) -> Weights:
    """ROC area of each draw, ``[B]``; NaN where a side weighs nothing.

    Args:
        positives: ``[P]``, higher meaning memorized.
        negatives: ``[N]``.
        pos_weights: how often each positive counts, ``[B, P]``.
        neg_weights: how often each negative counts, ``[B, N]``.

    """
    return ratio(weighted_wins(positives, negatives, pos_weights, neg_weights), pos_weights.sum(axis=1) * neg_weights.sum(axis=1))


def ratio(above: Weights, below: Weights) -> Weights:
    """``above / below``, NaN where ``below`` is 0."""
    share: Weights = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return share


def blocks(n: int) -> Iterator[int]:
    """Sizes of the blocks that ``n`` draws are made in."""
    for start in range(0, n, BLOCK):
        yield min(BLOCK, n - start)


def bootstrap_mean(values: Scores, ids: NDArray[np.int64], seed: int, n: int) -> tuple[float, float] | None:
    """95 % percentile interval of a mean, whole clusters resampled; ``ids`` as in :func:`draw_clusters`."""
    generator = np.random.default_rng(seed)

    def draw(size: int) -> Weights:
        weights = draw_clusters(ids, np.ones(size, dtype=np.int64), generator)
        return ratio(weights @ values, weights.sum(axis=1))

    return percentiles(draw, n)


def percentiles(draw: Callable[[int], Weights], n: int) -> tuple[float, float] | None:
    """The 2.5th and 97.5th percentile of ``n`` draws; None if a figure could be had in none of them.

    Args:
        draw: makes so many draws and gives the figure of each, NaN where it cannot be had.
        n: number of draws.

    """
    figures = np.concatenate([draw(size) for size in blocks(n)])
    known = figures[~np.isnan(figures)]
    if not known.size:
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
