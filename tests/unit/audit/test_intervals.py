"""Intervals against the score test they invert, and a plain bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from cxrguard.audit.intervals import auc_interval, bootstrap_auc, newcombe_auc, wilson


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


def by_grid(auc: float, m: int, n: int) -> tuple[float, float]:
    """All areas that a score test with Hanley and McNeil's variance at (m + n) / 2 − 1 does not reject, on a grid."""
    kept = []
    for step in range(20001):
        area = step / 20000
        q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)  # Hanley and McNeil 1982
        both = (m + n) / 2 - 1
        variance = (area * (1 - area) + both * (q1 - area**2) + both * (q2 - area**2)) / (m * n)
        if abs(auc - area) <= 1.959963984540054 * np.sqrt(max(variance, 0)) + 1e-12:
            kept.append(area)
    return min(kept), max(kept)


@pytest.mark.parametrize(("auc", "m", "n"), [(0.87, 12, 93), (0.5, 4, 4), (1.0, 10, 1000), (0.0, 3, 7), (0.03, 40, 900), (0.999, 2, 500)])
def test_newcombe_agrees_with_a_grid_search(auc: float, m: int, n: int) -> None:
    assert newcombe_auc(auc, m, n) == pytest.approx(by_grid(auc, m, n), abs=1.1e-4)


@given(st.floats(0, 1), st.integers(1, 300), st.integers(1, 2000))
def test_newcombe_contains_the_area_and_is_never_degenerate(auc: float, m: int, n: int) -> None:
    low, high = newcombe_auc(auc, m, n)
    assert 0 <= low <= auc <= high <= 1
    assert high - low > 1e-3
    mirrored = newcombe_auc(1 - auc, m, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)
    larger = newcombe_auc(auc, 2 * m, 2 * n)
    assert larger[1] - larger[0] < high - low


def test_newcombe_holds_its_level() -> None:
    """Of many draws from two normal distributions about 95 % of the intervals hold the true area, and not far fewer."""
    rng = np.random.default_rng(0)
    for shift, true in ((0.0, 0.5), (1.8124, 0.9)):  # Φ(1.8124 / √2) = 0.9
        held = 0
        for _ in range(400):
            pos, neg = rng.normal(shift, 1, 12), rng.normal(0, 1, 100)
            low, high = newcombe_auc(float((pos[:, None] > neg).mean()), 12, 100)
            held += low <= true <= high
        assert held / 400 > 0.92


def test_the_wider_end_of_both_counts() -> None:
    rng = np.random.default_rng(0)
    pos, neg = rng.normal(1, 1, 20), rng.normal(0, 1, 200)
    both = auc_interval(pos, neg, range(20), range(200), seed=1, n=500)
    drawn = bootstrap_auc(pos, neg, range(20), range(200), seed=1, n=500)
    sized = newcombe_auc(float((pos[:, None] > neg).mean()), 20, 200)
    assert drawn is not None and both == [min(drawn[0], sized[0]), max(drawn[1], sized[1])]
    perfect = auc_interval([5.0] * 20, neg, range(20), range(200))
    assert perfect is not None and perfect[0] < 0.95 and perfect[1] == 1.0
    one_patient = auc_interval([5.0] * 20, neg, [i % 3 for i in range(20)], range(200))
    assert one_patient is not None and one_patient[0] < 0.75  # three patients, however many their images
    assert auc_interval([5.0], neg, "a", range(200)) is None
