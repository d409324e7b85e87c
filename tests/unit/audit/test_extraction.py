"""What counts as extracted, against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cxrguard.audit.extraction import MIN_NULL, Replays, find_replays, nearest, replay_threshold


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def nearest_by_loops(samples: np.ndarray, training: np.ndarray) -> tuple[list[float], list[int]]:
    distances, indices = [], []
    for sample in samples:
        best, where = math.inf, -1
        for index, image in enumerate(training):
            gap = sum((float(a) - float(b)) ** 2 for a, b in zip(sample, image, strict=True)) / len(image)
            if gap < best:
                best, where = gap, index
        distances.append(best)
        indices.append(where)
    return distances, indices


@pytest.mark.parametrize(("n", "m", "d", "chunk"), [(7, 9, 5, 512), (7, 9, 5, 2), (1, 1, 1, 1), (6, 40, 12, 6)])
def test_nearest_against_a_double_loop(n: int, m: int, d: int, chunk: int) -> None:
    samples, training = randn(n, d), randn(m, d, seed=1)
    distance, index = nearest(samples, training, chunk)
    want = nearest_by_loops(samples.numpy(), training.numpy())
    assert distance.tolist() == pytest.approx(want[0], rel=1e-5) and index.tolist() == want[1]


def test_a_copy_is_at_exactly_zero_even_far_from_the_origin() -> None:
    """The usual matrix-product shortcut loses small distances between large numbers."""
    training = randn(60, 300) + 1000
    samples = training[[3, 50]].clone()
    samples[1, 0] += 0.25
    distance, index = nearest(samples, training)
    assert index.tolist() == [3, 50] and distance.tolist() == [0, pytest.approx(0.0625 / 300)]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.bool])
def test_integers_are_refused(dtype: torch.dtype) -> None:
    whole, fine = torch.zeros(2, 3, dtype=dtype), torch.zeros(2, 3)
    for samples, training in ((whole, whole), (whole, fine), (fine, whole)):
        with pytest.raises(TypeError, match="floating-point"):
            nearest(samples, training)


def test_no_training_image_and_no_sample() -> None:
    with pytest.raises(ValueError, match="no training image"):
        nearest(randn(2, 3), randn(0, 3))
    distance, index = nearest(randn(0, 3), randn(2, 3))
    assert distance.shape == index.shape == (0,) and index.dtype == torch.int64


@given(st.integers(MIN_NULL, 700), st.sampled_from([0.01, 0.05, 0.1]), st.integers(0, 9), st.booleans())
@settings(max_examples=60, deadline=None)
def test_threshold_by_sorting(n: int, quantile: float, seed: int, ties: bool) -> None:
    null = randn(n, seed=seed).abs()
    null = (null * 3).round() if ties else null
    threshold = replay_threshold(null, quantile)
    assert threshold == sorted(null.tolist())[math.floor(quantile * (n - 1) + 1e-9)]
    assert sum(x < threshold for x in null.tolist()) <= quantile * n  # chance alone stays at or under it


@pytest.mark.parametrize("n", [0, 1, 99])
def test_no_threshold_below_a_hundred_images(n: int) -> None:
    assert MIN_NULL == 100 and replay_threshold(randn(n).abs()) is None


def test_a_hundred_images_are_enough() -> None:
    null = randn(100).abs()
    assert replay_threshold(null) == null.min()


@pytest.mark.parametrize("threshold", [0.0, 0.6, 1.0, 100.0])
def test_find_replays_by_loops(threshold: float) -> None:
    samples, training = randn(5, 3, 4), randn(8, 4, seed=1)
    samples[0, 1], samples[1, 2], samples[4, 0] = training[2], training[7], training[0]
    own = torch.tensor([2, 2, -1, 5, -1])
    replays = find_replays(samples, training, own, threshold)
    for i in range(5):
        distances, indices = nearest_by_loops(samples[i].numpy(), training.numpy())
        for k in range(3):
            assert float(replays.distance[i, k]) == pytest.approx(distances[k], rel=1e-5) and int(replays.index[i, k]) == indices[k]
            assert bool(replays.any[i, k]) == (distances[k] < threshold)
            assert bool(replays.own[i, k]) == (distances[k] < threshold and indices[k] == int(own[i]))
    if threshold == 0.6:
        assert replays.own[0, 1] and replays.any[1, 2] and not replays.own[1, 2] and not replays.own[[2, 4]].any()


def test_an_image_at_the_threshold_is_no_replay() -> None:
    training = torch.zeros(1, 2)
    samples = torch.tensor([[[2.0, 0.0], [1.999, 0.0]]])
    assert find_replays(samples, training, torch.tensor([0]), 2.0).own.tolist() == [[False, True]]


def test_rates_by_loops() -> None:
    own = torch.tensor([[0, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]], dtype=torch.bool)
    replays = Replays(own, own | torch.tensor([1, 0, 0], dtype=torch.bool), torch.zeros(4, 3), torch.zeros(4, 3, dtype=torch.int64))
    for k in (1, 2, 3):
        hits = [any(row[:k]) for row in own.tolist()]
        assert replays.hits("own", k).tolist() == hits and replays.rate("own", k) == sum(hits) / 4
        assert replays.rate("any", k) == 1
    assert find_replays(randn(0, 3, 2), randn(2, 2), torch.zeros(0, dtype=torch.int64), 1.0).rate("own", 1) is None


def test_a_controls_own_image_counts_only_when_nearer_than_every_training_image() -> None:
    training = torch.tensor([[0.0, 0.0], [4.0, 4.0]])
    own = torch.tensor([[1.0, 1.0]])
    samples = torch.tensor([[[1.1, 1.1], [0.4, 0.4], [2.2, 2.2]]])  # at its own; nearer to a training image; too far from all
    replays = find_replays(samples, training, torch.tensor([-1]), 0.5, own)
    assert replays.own.tolist() == [[True, False, False]]
    assert replays.any.tolist() == [[False, True, False]]


def test_where_replays_land() -> None:
    hit = torch.tensor([[True, False], [True, True]])
    replays = Replays(hit, hit, torch.zeros(2, 2), torch.tensor([[3, 3], [0, 3]]))
    assert replays.landing_on(torch.tensor([3]), 2) == pytest.approx(2 / 3)
    assert replays.landing_on(torch.tensor([3]), 1) == pytest.approx(1 / 2)
    assert Replays(~hit, hit & False, torch.zeros(2, 2), torch.zeros(2, 2)).landing_on(torch.tensor([3]), 2) is None
