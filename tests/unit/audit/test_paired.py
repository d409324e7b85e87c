"""Means of paired differences against loops, published figures and their coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cxrguard.audit.paired import mean_difference, newcombe_paired, share_difference, t_95, t_interval


def test_mean_and_interval_against_resampling_by_hand() -> None:
    rng = np.random.default_rng(0)
    by_patient = {f"p{i}": list(rng.normal(0.3, 1) + rng.normal(0, 0.3, 1 + i % 3)) for i in range(30)}
    values = [x for xs in by_patient.values() for x in xs]
    names = [name for name, xs in by_patient.items() for _ in xs]
    found = mean_difference(values, names)
    assert (found["n"], found["n_clusters"], found["reason"]) == (len(values), 30, None)
    assert found["mean"] == pytest.approx(sum(values) / len(values))
    means = []
    for _ in range(3000):
        drawn = [x for i in rng.integers(0, 30, 30) for x in by_patient[f"p{i}"]]
        means.append(sum(drawn) / len(drawn))
    low, high = np.percentile(means, [2.5, 97.5])
    spread = sum(sum(x - found["mean"] for x in xs) ** 2 for xs in by_patient.values())
    half = 2.0452 * math.sqrt(30 / 29 * spread) / len(values)  # t of 29 degrees of freedom, from a table
    assert found["ci"] == pytest.approx([min(low, found["mean"] - half), max(high, found["mean"] + half)], abs=0.04)
    assert found["ci"][1] - found["mean"] >= half * 0.999
    assert mean_difference(values, names) == found
    once = mean_difference(values)
    assert once["ci"][1] - once["ci"][0] < found["ci"][1] - found["ci"][0]  # a patient's prompts are alike


@pytest.mark.parametrize(
    ("values", "clusters", "mean", "says"),
    [
        ([], None, None, "two pairs are needed; there are 0"),
        ([1.0], None, None, "two pairs are needed; there is 1"),
        ([1.0, np.nan, np.inf], None, None, "2 differences were not finite and are left out; two pairs are needed; there is 1"),
        ([1.0, 2.0], ["a", "a"], 1.5, "all pairs are of one cluster"),
        ([2.0, 2.0, 2.0], None, 2.0, "all differences are the same"),
    ],
)
def test_null_has_a_reason(values: list[float], clusters: list[str] | None, mean: float | None, says: str) -> None:
    found = mean_difference(values, clusters)
    assert found["mean"] == mean and found["ci"] is None and says in found["reason"]


def test_what_is_not_finite_is_left_out_and_told() -> None:
    found = mean_difference([1.0, np.nan, 3.0, 5.0], ["a", "b", "b", "c"])
    assert found["mean"] == 3.0 and found["n"] == 3 and found["ci"] and found["reason"] == "1 differences were not finite and are left out"
    with pytest.raises(ValueError, match="one a difference"):
        mean_difference([1.0], ["a", "b"])


def test_a_few_prompts_have_a_wide_interval() -> None:
    assert (
        t_95(1) == pytest.approx(12.706, rel=1e-3)
        and t_95(3) == pytest.approx(3.182, rel=0.01)
        and t_95(30) == pytest.approx(2.042, rel=1e-3)
    )
    low, high = mean_difference([1.0, 2.0])["ci"]
    assert (low, high) == pytest.approx(t_interval(np.array([1.0, 2.0]), np.array([0, 1]))) and high - low > 12


@pytest.mark.parametrize(
    ("cells", "published"),  # Newcombe 1998, table II, method 10
    [((36, 12, 2, 0), (0.0569, 0.3404)), ((1, 12, 2, 35), (0.0561, 0.3411)), ((36, 14, 0, 0), (0.1528, 0.4167))],
)
def test_newcombes_published_examples(cells: tuple[int, ...], published: tuple[float, float]) -> None:
    assert newcombe_paired(*cells) == pytest.approx(published, abs=1e-4)


def test_shares_that_do_not_differ_still_have_a_width() -> None:
    none = share_difference([False] * 30, [False] * 30)
    assert none["mean"] == 0 and none["ci"] == pytest.approx([-0.1135, 0.1135], abs=1e-3)
    every = share_difference([True] * 30, [False] * 30)
    assert every["mean"] == 1 and 0.8 < every["ci"][0] < 0.9 and every["ci"][1] == 1.0
    doubled = share_difference([False] * 60, [False] * 60, [i // 2 for i in range(60)])
    assert doubled["ci"] == pytest.approx(none["ci"])  # a patient who is there twice is not two
    assert share_difference([True], [False])["mean"] is None
    with pytest.raises(ValueError, match="as many"):
        share_difference([True], [False, True])


def test_share_difference_counts_pairs() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random(50) < 0.7, rng.random(50) < 0.3
    found = share_difference(first, second)
    assert found["mean"] == pytest.approx((sum(first.tolist()) - sum(second.tolist())) / 50)
    both, one = int((first & second).sum()), int((first & ~second).sum())
    other = int((~first & second).sum())
    bounds = newcombe_paired(both, one, other, 50 - both - one - other)
    assert found["ci"][0] <= bounds[0] + 1e-12 and found["ci"][1] >= bounds[1] - 1e-12 and found["ci"][0] > 0


@pytest.mark.parametrize("size", [4, 12])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(size: int) -> None:
    rng = np.random.default_rng(size)
    hits = 0
    for _ in range(300):
        low, high = mean_difference(rng.normal(0.5, 1, size), n=100)["ci"]
        hits += low <= 0.5 <= high
    assert 0.92 <= hits / 300 <= 1.0
