"""Exposure against ranks by a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrguard.audit.exposure import exposure, mean_exposure

few = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=30)  # ties are common


@given(few, few)
def test_exposure_by_a_loop_over_ranks(canaries: list[float], controls: list[float]) -> None:
    found = exposure(np.array(canaries), np.array(controls))
    for bits, canary in zip(found, canaries, strict=True):
        rank = 1.0
        for control in controls:
            rank += 1.0 if control > canary else 0.5 if control == canary else 0.0
        assert bits == pytest.approx(math.log2(len(controls) + 1) - math.log2(rank))
        assert 0 <= bits <= math.log2(len(controls) + 1)


def test_an_unmemorized_canary_has_1_44_bits_in_the_mean() -> None:
    rng = np.random.default_rng(0)
    assert exposure(rng.normal(size=20_000), rng.normal(size=5_000)).mean() == pytest.approx(1 / math.log(2), abs=0.05)


def test_without_the_controls_that_look_most_memorized_an_unmemorized_canary_stands_out() -> None:
    """Why the reference is all controls, not those alone that do not replay."""
    rng = np.random.default_rng(0)
    canaries, controls = rng.normal(size=5_000), rng.normal(size=5_000)
    assert exposure(canaries, np.sort(controls)[:3_500]).mean() > 2.5


def test_the_most_and_the_least() -> None:
    controls = np.arange(1023.0)
    assert exposure(np.array([9e9, -1.0]), controls).tolist() == [10.0, 0.0]


def test_mean_and_interval() -> None:
    rng = np.random.default_rng(1)
    canaries, controls = rng.normal(1, 1, 24), rng.normal(0, 1, 500)
    names = [i // 2 for i in range(24)]
    found = mean_exposure(canaries, controls, names, n=2000)
    assert found is not None and found[1] is not None
    bits = exposure(canaries, controls)
    assert found[0] == pytest.approx(bits.mean())
    means = []
    for _ in range(3000):
        drawn = rng.integers(0, 12, 12)
        means.append(np.mean([bits[2 * i + j] for i in drawn for j in (0, 1)]))
    assert found[1] == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.15)
    assert mean_exposure(canaries, controls, names) == mean_exposure(canaries, controls, names)


def test_what_cannot_be_had() -> None:
    none, some = np.zeros(0), np.ones(3)
    assert mean_exposure(none, some, []) is None and mean_exposure(some, none, "abc") is None
    assert mean_exposure(some, np.zeros(7), "aaa") == (3.0, None)
