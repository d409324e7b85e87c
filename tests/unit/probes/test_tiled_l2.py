"""Carlini's tiled l2, against loops."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cxrguard.probes.tiled_l2 import neighbour_ratio, neighbours, tiled_l2


def images(n: int, h: int = 8, w: int = 8, seed: int = 0) -> Tensor:
    return torch.rand(n, 1, h, w, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def edges(side: int, grid: int) -> list[range]:
    """The first ``side % grid`` tiles are one pixel longer."""
    short, longer = divmod(side, grid)
    starts = [0]
    for i in range(grid):
        starts.append(starts[-1] + short + (i < longer))
    return [range(a, b) for a, b in pairwise(starts)]


def tiled_by_loops(x: Tensor, y: Tensor, grid: int) -> float:
    worst = 0.0
    for rows in edges(x.shape[1], grid):
        for columns in edges(x.shape[2], grid):
            gaps = [(float(x[0, r, c]) - float(y[0, r, c])) ** 2 for r in rows for c in columns]
            worst = max(worst, math.sqrt(sum(gaps) / len(gaps)))
    return worst


@pytest.mark.parametrize(("h", "w", "grid"), [(8, 8, 4), (9, 14, 4), (5, 4, 4), (6, 6, 1), (7, 7, 7)])
def test_against_loops(h: int, w: int, grid: int) -> None:
    a, b = images(3, h, w), images(5, h, w, seed=1)
    want = torch.tensor([[tiled_by_loops(x, y, grid) for y in b] for x in a])
    torch.testing.assert_close(tiled_l2(a, b, grid=grid, chunk=2), want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 50])
def test_neighbours_against_loops(k: int) -> None:
    samples, training = images(4), images(6, seed=1)
    found = neighbours(samples, training, k=k, chunk=3)
    for i, x in enumerate(samples):
        distances = [tiled_by_loops(x, y, 4) for y in training]
        order = sorted(range(6), key=distances.__getitem__)
        others = order[1 : 1 + min(k, 5)]
        assert int(found.index[i]) == order[0]
        assert float(found.distance[i]) == pytest.approx(distances[order[0]], rel=1e-4)
        assert float(found.ratio[i]) == pytest.approx(distances[order[0]] / (sum(distances[j] for j in others) / len(others)), rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), grid=st.integers(1, 4), chunk=st.integers(1, 5))
def test_it_is_a_metric_above_the_plain_l2(seed: int, grid: int, chunk: int) -> None:
    a, b = images(3, 8, 9, seed), images(4, 8, 9, seed + 1)
    found = tiled_l2(a, b, grid=grid, chunk=chunk)
    plain = (a[:, None] - b[None]).square().flatten(2).mean(dim=2).sqrt()
    assert (found >= plain - 1e-6).all() and (found <= 2).all()
    assert torch.allclose(found, tiled_l2(b, a, grid=grid).T, atol=1e-6)
    assert (tiled_l2(a, a, grid=grid).diagonal() == 0).all()
    through = found[:, :, None] + tiled_l2(b, a, grid=grid)[None]
    assert (tiled_l2(a, a, grid=grid)[:, None] <= through + 1e-5).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(1, 8))
def test_ratio_is_at_most_one_and_scales_away(seed: int, k: int) -> None:
    distances = torch.rand(5, k + 1, generator=torch.Generator().manual_seed(seed)).sort(dim=1).values
    ratio = neighbour_ratio(distances)
    assert ((ratio >= 0) & (ratio <= 1 + 1e-6)).all()
    assert torch.allclose(neighbour_ratio(distances * 7), ratio, rtol=1e-5)


def test_one_tile_that_differs_decides() -> None:
    """A plain l2 calls these near; here the distance is that of the corner alone."""
    x, y = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    y[..., :4, :4] = 1
    assert tiled_l2(x, y).item() == pytest.approx(1)
    assert tiled_l2(x, y, grid=1).item() == pytest.approx(0.25)


def test_a_copy_stands_out_by_its_ratio() -> None:
    training = images(60)
    found = neighbours(torch.cat([training[7:8], training[8:9] + 0.01, images(1, seed=9)]), training)
    assert found.distance[0] == 0 and found.ratio[0] == 0
    assert found.index[:2].tolist() == [7, 8] and found.ratio[1] < 0.05 < 0.5 < found.ratio[2]


def test_images_that_are_all_alike_have_ratio_zero() -> None:
    flat = torch.zeros(3, 1, 4, 4)
    assert neighbours(flat, flat).ratio.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("samples", "training", "error", "says"),
    [
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), images(2), TypeError, "uint8"),
        (images(2), torch.zeros(1, 1, 8, 8, dtype=torch.uint8), TypeError, "wrap around"),
        (images(2, 8), images(2, 9), ValueError, "one size"),
        (images(2)[:, 0], images(2)[:, 0], ValueError, "N, 1, H, W"),
        (images(2), images(0), ValueError, "no training image"),
        (images(2, 3, 3), images(2, 3, 3), ValueError, "grid"),
        (torch.full((1, 1, 8, 8), math.nan), images(2), ValueError, "not finite"),
    ],
)
def test_refused(samples: Tensor, training: Tensor, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        tiled_l2(samples, training)


def test_neighbours_need_two_training_images() -> None:
    for k, m in ((0, 5), (3, 1)):
        with pytest.raises(ValueError, match="two training images"):
            neighbours(images(2), images(m), k=k)
