"""The ROC curve against a loop over thresholds; its band."""

from __future__ import annotations

import numpy as np
import pytest

from cxrguard.audit.detectors import Scored
from cxrguard.audit.intervals import wilson
from cxrguard.audit.roc import RATES, roc_curve
from cxrguard.audit.statistics import tpr_at_fpr


def scored(values: np.ndarray, per_patient: int = 1) -> Scored:
    return Scored.of(values, [i // per_patient for i in range(values.size)])


def by_loop(pos: np.ndarray, neg: np.ndarray, rate: float) -> float:
    """The best TPR of all thresholds whose FPR is allowed."""
    cuts = [-np.inf, *pos, *neg]
    return float(max((pos > cut).mean() for cut in cuts if (neg > cut).mean() <= rate + 1e-12 and (cut == -np.inf or cut in neg)))


@pytest.mark.parametrize("direction", ["higher", "lower"])
def test_the_curve_is_that_of_a_loop_with_ties_too(direction: str) -> None:
    rng = np.random.default_rng(0)
    pos, neg = rng.normal(1, 1, 23).round(1), rng.normal(0, 1, 137).round(1)
    sign = 1 if direction == "higher" else -1
    curve = roc_curve(scored(sign * pos), scored(sign * neg), direction, n=50)  # type: ignore[arg-type]
    assert curve is not None and curve["fpr"] == list(RATES) == sorted(set(RATES)) and RATES[-1] == 1.0
    assert curve["tpr"] == pytest.approx([by_loop(pos, neg, rate) for rate in RATES], abs=1e-4)
    at = RATES.index(0.01)
    assert curve["tpr"][at] == pytest.approx(tpr_at_fpr(sign * pos, sign * neg, 0.01, direction), abs=1e-4)  # type: ignore[arg-type]


def test_the_band_holds_the_curve_and_widens_with_fewer_patients() -> None:
    rng = np.random.default_rng(1)
    pos, neg = rng.normal(1, 1, 60), rng.normal(0, 1, 200)
    widths = []
    for per_patient in (1, 10):
        curve = roc_curve(scored(pos, per_patient), scored(neg, per_patient), "higher", n=200)
        assert curve is not None
        low, tpr, high = (np.array(curve[name]) for name in ("low", "tpr", "high"))
        assert (low <= tpr).all() and (tpr <= high).all() and (np.diff(tpr) >= 0).all()
        widths.append(float((high - low).mean()))
    assert widths[1] > 1.3 * widths[0]


def test_the_band_covers_the_true_curve() -> None:
    """95 % intervals at single rates, over many small studies."""
    rng = np.random.default_rng(2)
    truth = np.array([(rng.normal(1, 1, 200_000) > np.quantile(rng.normal(0, 1, 200_000), 1 - rate)).mean() for rate in (0.1, 0.3)])
    places = [RATES.index(0.1), RATES.index(0.3)]
    inside = []
    for study in range(60):
        curve = roc_curve(scored(rng.normal(1, 1, 20)), scored(rng.normal(0, 1, 80)), "higher", seed=study, n=200)
        assert curve is not None
        inside.append([curve["low"][p] <= t <= curve["high"][p] for p, t in zip(places, truth, strict=True)])
    assert np.mean(inside) >= 0.9


def test_a_perfect_separation_has_a_width_by_its_size() -> None:
    curve = roc_curve(scored(np.arange(8) + 100.0), scored(np.arange(50.0)), "higher")
    assert curve is not None and set(curve["tpr"]) == {1.0}
    assert curve["low"][0] == pytest.approx((wilson(8, 8) or ())[0], abs=1e-4) and curve["low"][-1] == 1.0 and set(curve["high"]) == {1.0}


def test_what_cannot_be_had_is_none() -> None:
    some = scored(np.arange(5.0))
    assert roc_curve(Scored.of([]), some, "higher") is None and roc_curve(some, Scored.of([]), "higher") is None
    curve = roc_curve(Scored.of([3.0, 4.0], ["one", "one"]), some, "higher")
    assert curve is not None and curve["low"] is curve["high"] is None and len(curve["tpr"]) == len(RATES)
