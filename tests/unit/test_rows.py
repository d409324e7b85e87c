"""Rows that are made when they are asked for behave like a tensor, and distances to them are those to all at once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from cxrguard import rows as module
from cxrguard.audit.extraction import nearest
from cxrguard.probes.tiled_l2 import neighbour_ratio, neighbours, tiled_l2
from cxrguard.rows import FlatRows, LazyRows, batches, block_rows


class Lazy(LazyRows):
    """A tensor's rows; knows how many were ever asked for at once."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.shape, self.most = tensor, tuple(tensor.shape), 0

    def read(self, indices: Sequence[int]) -> Tensor:
        self.most = max(self.most, len(indices))
        return self.tensor[list(indices)]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven rows of 64 numbers at once."""
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 7 * 64)


@pytest.mark.parametrize("index", [0, 4, -1, slice(None), slice(1, 4), slice(3, 1), [3, 0, -2], torch.tensor([1, 1])])
def test_indexed_like_a_tensor(index: object) -> None:
    tensor = randn(5, 2, 3)
    assert torch.equal(Lazy(tensor)[index], tensor[index])  # type: ignore[index]
    flat = FlatRows(Lazy(tensor))
    assert flat.shape == (5, 6) and torch.equal(flat[index], tensor.flatten(1)[index])  # type: ignore[index]


def test_iterated_and_split_like_a_tensor() -> None:
    tensor, lazy = randn(7, 3), Lazy(randn(7, 3))
    assert torch.equal(torch.stack(list(lazy)), tensor) and lazy.most == 1
    for part, want in zip(lazy.split(3), tensor.split(3), strict=True):
        assert torch.equal(part, want)
    assert lazy.most == 3 and len(lazy) == 7
    with pytest.raises(IndexError):
        lazy[7]


def test_batches_and_blocks() -> None:
    assert list(batches(range(5), 2)) == [range(2), range(2, 4), range(4, 5)] and list(batches([], 2)) == []
    assert block_rows(torch.zeros(3, 1, 64, 64)) == 512 and block_rows(torch.zeros(1, 10**9, 0)) > 0
    assert block_rows(Lazy(torch.zeros(2, 1)).tensor.expand(2, 2**24)) == 1


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("m", [1, 7, 8, 40])
def test_the_nearest_of_blocks_is_the_nearest_of_all(m: int) -> None:
    samples, training = randn(20, 64), randn(m, 64, seed=1)
    all_at_once = torch.cdist(samples, training, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
    lazy = Lazy(training)
    for given in (training, lazy):
        distance, index = nearest(Lazy(samples), given)
        assert torch.equal(distance, all_at_once.values.square() / 64) and torch.equal(index, all_at_once.indices)
    assert lazy.most <= 7


@pytest.mark.usefixtures("small_blocks")
def test_of_equally_near_ones_the_first_and_what_is_no_number_stays_none() -> None:
    training = randn(3, 64).repeat(10, 1)
    distance, index = nearest(training[:3], Lazy(training))
    assert index.tolist() == [0, 1, 2] and distance.tolist() == [0, 0, 0]
    samples = randn(2, 64)
    samples[1, 0] = float("nan")
    distance, _ = nearest(samples, Lazy(training))
    assert torch.isfinite(distance[0]) and torch.isnan(distance[1])


def test_integers_are_refused_and_nothing_has_no_nearest() -> None:
    with pytest.raises(TypeError, match="floating-point"):
        nearest(Lazy(torch.zeros(2, 3)), Lazy(torch.zeros(2, 3, dtype=torch.uint8)))
    with pytest.raises(ValueError, match="no training image"):
        nearest(torch.zeros(2, 3), Lazy(torch.zeros(0, 3)))
    assert [len(x) for x in nearest(Lazy(torch.zeros(0, 3)), torch.zeros(2, 3))] == [0, 0]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("m", "k"), [(2, 5), (6, 5), (7, 5), (40, 5), (40, 39), (40, 60)])
def test_the_neighbours_in_blocks_are_those_of_all(m: int, k: int) -> None:
    samples, training = randn(9, 1, 8, 8).tanh(), randn(m, 1, 8, 8, seed=1).tanh()
    order = tiled_l2(samples, training).sort(dim=1)
    lazy = Lazy(training)
    found = neighbours(samples, lazy, k=k, chunk=4)
    assert torch.equal(found.distance, order.values[:, 0]) and torch.equal(found.index, order.indices[:, 0])
    torch.testing.assert_close(found.ratio, neighbour_ratio(order.values[:, : k + 1]), rtol=1e-6, atol=1e-7)
    assert lazy.most <= 7
