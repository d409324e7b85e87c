"""A detector's entry: what it needs, where it is trusted, what it says instead."""

from __future__ import annotations

import numpy as np
import pytest

from cxrguard.audit.detectors import Scored, by_repeats, describe
from cxrguard.audit.intervals import wilson
from cxrguard.audit.judge_detectors import by_patient

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("n", "at_1", "at_01"), [(99, False, False), (100, True, False), (999, True, False), (1000, True, True), (0, False, False)]
)
def test_a_tpr_needs_enough_controls(n: int, at_1: bool, at_01: bool) -> None:
    entry = describe(Scored.of(RNG.normal(3, 1, 20)), Scored.of(RNG.normal(0, 1, n)), "higher", 2, n_bootstrap=50)
    for key, there, said in (("tpr_at_1pct_fpr", at_1, "need 100 controls"), ("tpr_at_01pct_fpr", at_01, "needs 1,000 controls")):
        assert (entry[key] is not None) == there == (entry[f"{key}_ci"] is not None)
        assert (said in (entry["reason"] or "")) == (not there)
    assert (entry["threshold"] is not None) == at_1


def test_tprs_by_a_search_over_thresholds() -> None:
    pos, neg = RNG.normal(2, 1, 40).round(1), RNG.normal(0, 1, 2500).round(1)
    names = [i // 2 for i in range(40)]
    entry = describe(Scored.of(-pos, names), Scored.of(-neg), "lower", 2, n_bootstrap=50)
    for key, rate in (("tpr_at_1pct_fpr", 0.01), ("tpr_at_01pct_fpr", 0.001)):
        allowed = [(neg > cut).mean() <= rate for cut in np.unique([*pos, *neg])]
        best = max(float((pos > cut).mean()) for cut, ok in zip(np.unique([*pos, *neg]), allowed, strict=True) if ok)
        assert entry[key] == pytest.approx(best)
        assert entry[f"{key}_ci"] == pytest.approx(list(wilson(round(best * 20), 20) or ()))  # 20 patients
        assert entry[f"{key}_ci"][0] <= best <= entry[f"{key}_ci"][1]
    assert entry["reason"] is None


def level(n: int, shift: float) -> dict[str, object]:
    scores, neg = np.full(n, shift), np.linspace(-1, 1, 1000)
    return by_repeats(scores, np.ones(n, bool), [3] * n, list(range(n)), Scored.of(neg), neg, "higher", 0)


def test_a_level_and_a_detector_are_trusted_alike() -> None:
    assert [level(n, 5.0)["lowest_repeats"] for n in (4, 5, 12)] == [None, 3, 3]
    (row,) = level(4, 5.0)["by_repeats"]  # type: ignore[misc, attr-defined]
    assert row["auc"] == 1.0 and "4 positives are too few" in row["reason"]
    assert level(50, 0.0)["lowest_repeats"] is None
    for n in (4, 5, 12):  # with a single level both are the same figures
        entry = describe(Scored.of(np.full(n, 5.0)), Scored.of(np.linspace(-1, 1, 1000)), "higher", 2)
        assert entry["trusted"] == (level(n, 5.0)["lowest_repeats"] is not None)


def test_the_lowest_trusted_level_is_named() -> None:
    scores = np.array([0.0] * 6 + [5.0] * 6 + [6.0] * 6 + [7.0] * 2)
    repeats = [1] * 6 + [4] * 6 + [16] * 6 + [2] * 2
    neg = np.linspace(-1, 1, 400)
    found = by_repeats(scores, np.ones(20, bool), repeats, list(range(20)), Scored.of(neg), neg, "higher", 0)
    assert [(row["repeats"], row["trusted"]) for row in found["by_repeats"]] == [(1, False), (2, False), (4, True), (16, True)]
    assert found["lowest_repeats"] == 4


def test_clusters_must_fit() -> None:
    with pytest.raises(ValueError, match="one a score"):
        Scored.of([1.0, 2.0], ["a"])
    found = Scored.of([1.0, np.nan, np.inf, 4.0], "abcd")
    assert found.scores.tolist() == [1.0, 4.0] and found.clusters == ("a", "d") and found.lost == 2


def test_a_patient_with_many_images_does_not_look_memorized_for_their_number() -> None:
    rng = np.random.default_rng(0)
    scores, subjects = rng.normal(0, 1, 4000), [f"p{i // 8}" for i in range(4000)]
    found = by_patient(scores, subjects)
    assert found.clusters == tuple(dict.fromkeys(subjects))
    assert found.scores == pytest.approx(
        [np.mean([s for s, who in zip(scores, subjects, strict=True) if who == p]) for p in found.clusters]
    )
    assert (found.scores[:, None] > rng.normal(0, 1, 500)).mean() == pytest.approx(0.5, abs=0.03)
