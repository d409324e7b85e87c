"""Intervals against the score test they invert, and a plain bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from cxrguard.audit.intervals import bootstrap_auc, wilson


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy_and_inverts_the_score_test(k_n: tuple[int, int]) -> None:
    k, n = k_n
    interval = wilson(k, n)
    assert interval is not None
    expected = binomtest(k, n).proportion_ci(method="wilson")
    assert interval == pytest.approx((expected.low, expected.high), abs=1e-9)
    for bound in interval:
        if 0 < bound < 1:  # at its ends the score statistic is exactly z
            assert abs(k / n - bound) / np.sqrt(bound * (1 - bound) / n) == pytest.approx(1.959964, abs=1e-4)


def test_wilson_of_nothing_and_of_zero() -> None:
    assert wilson(0, 0) is None
    low, high = wilson(0, 30) or (1, 1)
    assert low == 0.0
    assert high == pytest.approx(0.1135, abs=1e-4)
    with pytest.raises(ValueError, match="k of n"):
        wilson(3, 2)


def _naive(pos: dict[int, list[float]], neg: dict[int, list[float]], n: int) -> tuple[float, float]:
    rng = np.random.default_rng(99)
    areas = []
    for _ in range(n):
        p = [x for c in rng.choice(list(pos), len(pos)) for x in pos[c]]
        q = [x for c in rng.choice(list(neg), len(neg)) for x in neg[c]]
        areas.append(np.mean([(a > b) + 0.5 * (a == b) for a in p for b in q]))
    return float(np.quantile(areas, 0.025)), float(np.quantile(areas, 0.975))


def test_bootstrap_resamples_whole_patients() -> None:
    rng = np.random.default_rng(0)
    pos = {c: list(rng.normal(1, 1) + rng.normal(0, 0.1, 4)) for c in range(8)}
    neg = {c: list(rng.normal(0, 1) + rng.normal(0, 0.1, 4)) for c in range(8)}
    flat = [[x for values in side.values() for x in values] for side in (pos, neg)]
    names = [c for c in range(8) for _ in range(4)]
    clustered = bootstrap_auc(*flat, names, names, seed=1)
    assert clustered is not None
    assert clustered == pytest.approx(_naive(pos, neg, 600), abs=0.05)
    single = bootstrap_auc(*flat, range(32), range(32), seed=1)
    assert single is not None
    assert clustered[1] - clustered[0] > single[1] - single[0]
    assert clustered == bootstrap_auc(*flat, names, names, seed=1)


def test_bootstrap_direction_and_undefined() -> None:
    assert bootstrap_auc([1, 2, 3], [4, 5], "abc", "xy", "lower", n=20) == (1.0, 1.0)
    assert bootstrap_auc([1, 2], [4, 5], "aa", "xy") is None
    assert bootstrap_auc([], [4, 5], "", "xy") is None
    with pytest.raises(ValueError, match="pos_clusters"):
        bootstrap_auc([1, 2], [4, 5], "a", "xy")
