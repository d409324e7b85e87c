"""Draws as weights against explicit resampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrguard.audit.resampling import cluster_ids, draw_clusters, percentiles, weighted_auc

ties = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@given(ties, ties, st.integers(0, 99))
def test_weighted_auc_is_the_auc_of_repeated_scores(pos: list[float], neg: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    wp, wn = rng.integers(0, 3, (4, len(pos))), rng.integers(0, 3, (4, len(neg)))
    found = weighted_auc(np.array(pos), np.array(neg), wp.astype(float), wn.astype(float))
    for area, a, b in zip(found, wp, wn, strict=True):
        p, q = np.repeat(pos, a), np.repeat(neg, b)
        if not p.size or not q.size:
            assert np.isnan(area)
        else:
            assert area == pytest.approx(np.mean([(x > y) + 0.5 * (x == y) for x in p for y in q]))


def test_clusters_are_drawn_whole_and_as_often_as_asked() -> None:
    ids = cluster_ids(["b", "a", "b", "c"])
    assert ids.tolist() == [0, 1, 0, 2]
    weights = draw_clusters(ids, [1, 0, 2, 1], np.random.default_rng(0))
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == [3, 0, 6, 3]).all()
    many = draw_clusters(ids, np.ones(20_000, dtype=int), np.random.default_rng(0))[:, [0, 1, 3]]
    assert many.mean(axis=0) == pytest.approx([1, 1, 1], abs=0.03) and many.var(axis=0) == pytest.approx([2 / 3] * 3, abs=0.03)
    assert draw_clusters(cluster_ids([]), [1, 1], np.random.default_rng(0)).shape == (2, 0)


def test_percentiles_leave_out_what_cannot_be_had() -> None:
    sizes: list[int] = []

    def draw(size: int) -> np.ndarray:
        sizes.append(size)
        return np.where(np.arange(size) % 2, np.nan, np.arange(size, dtype=float))

    found = percentiles(draw, 250)
    values = [x for size in (100, 100, 50) for x in range(0, size, 2)]
    assert sizes == [100, 100, 50] and found == pytest.approx(np.percentile(values, [2.5, 97.5]))
    assert percentiles(lambda size: np.full(size, np.nan), 10) is None
