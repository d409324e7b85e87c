"""Against pair counting, an exhaustive search over thresholds, and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cxrguard.audit.statistics import Direction, roc_auc, threshold_at_fpr, tpr_at_fpr

# Few distinct values, so that ties are common.
scores = st.lists(st.integers(-4, 4).map(float), max_size=40)
some = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=40)
directions = st.sampled_from(["higher", "lower"])


@given(some, some, directions)
def test_roc_auc_counts_pairs(pos: list[float], neg: list[float], direction: Direction) -> None:
    sign = 1 if direction == "higher" else -1
    wins = sum((sign * p > sign * q) + 0.5 * (p == q) for p in pos for q in neg)
    area = roc_auc(pos, neg, direction)
    assert area == pytest.approx(wins / (len(pos) * len(neg)))
    labels = [1] * len(pos) + [0] * len(neg)
    assert area == pytest.approx(roc_auc_score(labels, sign * np.array(pos + neg)))


@given(some)
def test_an_empty_side_is_none(values: list[float]) -> None:
    assert roc_auc([], values) is roc_auc(values, []) is None
    assert tpr_at_fpr([], values * 200, 0.01) is None


@given(scores, some, st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.99]), directions)
def test_tpr_at_the_largest_allowed_fpr(pos: list[float], neg: list[float], max_fpr: float, direction: Direction) -> None:
    found = tpr_at_fpr(pos, neg, max_fpr, direction)
    if not pos or len(neg) * max_fpr < 1 - 1e-9:
        assert found is None
        return
    sign = 1 if direction == "higher" else -1
    cuts = [-np.inf, *sorted({sign * value for value in pos + neg})]
    rates = [(np.mean([sign * q > cut for q in neg]), np.mean([sign * p > cut for p in pos])) for cut in cuts]
    assert found == pytest.approx(max(tpr for fpr, tpr in rates if fpr <= max_fpr))


@given(some, st.sampled_from([0.1, 0.25, 0.5]), directions)
def test_no_more_negatives_than_allowed_lie_beyond_the_threshold(neg: list[float], max_fpr: float, direction: Direction) -> None:
    threshold = threshold_at_fpr(neg, max_fpr, direction)
    assert (threshold is None) == (len(neg) * max_fpr < 1)
    if threshold is not None:
        beyond = [value > threshold if direction == "higher" else value < threshold for value in neg]
        assert np.mean(beyond) <= max_fpr


def test_one_percent_needs_a_hundred_negatives() -> None:
    assert tpr_at_fpr([5.0], np.zeros(99), 0.01) is None
    assert tpr_at_fpr([5.0], np.zeros(100), 0.01) == 1.0
    # The nearest FPR would be 1/100 at a cut that two negatives pass; it must not be taken.
    assert tpr_at_fpr([0.5], [1.0, 1.0, *np.zeros(98)], 0.01) == 0.0


@pytest.mark.parametrize("call", [lambda: roc_auc([1], [2], "up"), lambda: roc_auc([np.nan], [2]), lambda: threshold_at_fpr([1], 1.0)])  # type: ignore[arg-type]
def test_bad_arguments_are_refused(call: object) -> None:
    with pytest.raises(ValueError, match=r"expected|NaN"):
        call()  # type: ignore[operator]
