"""Onsets of extraction by repeats, on made data whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import lognorm

from cxrguard.audit.onset import Fit, Onsets, fit_onsets, forecast, forecast_of, observed_onset, onsets

STEPS = np.arange(0, 3001, 150.0)


def made(slope: float, sigma: float = 0.3, a: float = 9.0, each: int = 12, seed: int = 0, levels=(16, 8, 4, 2)) -> Onsets:
    rng = np.random.default_rng(seed)
    repeats = np.repeat(levels, each)
    true = np.exp(a - slope * np.log(repeats) + sigma * rng.standard_normal(len(repeats)))
    place = np.searchsorted(STEPS, true)
    known = np.append(STEPS, np.inf)
    return Onsets(repeats, known[np.minimum(place - 1, len(STEPS) - 1)], known[place])


def test_onsets_are_the_first_rounds_that_extract():
    rounds = [{"step": s, "extracted": e} for s, e in ((0, [0, 1, 0, 0]), (100, [1, 0, 0, 0]), (200, [0, 0, 1, 0]))]
    found = onsets(rounds, [8, 8, 4, 2])
    assert found.low.tolist() == [0, 0, 100, 200]
    assert found.high.tolist() == [100, 0, 200, math.inf]


def test_the_likelihood_is_scipys():
    """Against scipy's own log-normal distribution, canary by canary, on a grid around the optimum."""
    data = made(1.0)

    def naive(fit: Fit) -> float:
        total = 0.0
        for r, low, high in zip(data.repeats, data.low, data.high, strict=True):
            d = lognorm(s=fit.sigma, scale=math.exp(fit.a - fit.b * math.log(r)))
            total += math.log((d.cdf(high) if math.isfinite(high) else 1.0) - d.cdf(low))
        return total

    best = fit_onsets(data)
    for da in (-0.05, 0.05):
        for db in (-0.05, 0.05):
            for ds in (0.9, 1.1):
                assert naive(best) > naive(Fit(best.a + da, best.b + db, best.sigma * ds))


@pytest.mark.parametrize("slope", [1.0, 0.5])
def test_the_truth_is_found(slope):
    fit = fit_onsets(made(slope, each=200, a=8.0 + slope))
    assert fit.b == pytest.approx(slope, abs=0.1) and fit.sigma == pytest.approx(0.3, abs=0.05)


def test_predicts_fewer_repeats_where_the_hypothesis_holds():
    covered = [forecast(made(1.0, seed=seed), [16, 8, 4], [2], draws=60)["levels"]["2"]["covered"] for seed in range(20)]
    assert np.mean(covered) >= 0.8


def test_says_so_where_it_does_not_hold():
    found = forecast(made(0.3, a=7.6, each=40), [16, 8, 4], [2], draws=60)
    assert found["slope_ci"][1] < 1 and not found["levels"]["2"]["covered"]


def test_without_onsets_there_is_a_reason():
    never = Onsets(np.array([4, 8]), np.array([300.0, 300.0]), np.array([np.inf, np.inf]))
    found = forecast(never, [4, 8], [2])
    assert found["slope"] is None and found["reason"]


def test_the_observed_onset_is_that_of_half_of_the_canaries():
    data = Onsets(np.full(4, 2), np.array([0.0, 100, 200, 300]), np.array([100.0, 200, 300, np.inf]))
    assert observed_onset(data) == (100, 200)
    assert observed_onset(Onsets(np.full(2, 2), np.array([300.0, 300]), np.array([np.inf, np.inf]))) == (300, math.inf)


def test_the_share_moves_the_onset():
    fit = Fit(9.0, 1.0, 0.5)
    assert fit.onset(4, 0.05) < fit.onset(4) < fit.onset(2)


def test_a_run_is_forecast_from_its_rounds():
    rng = np.random.default_rng(0)
    repeats = [16] * 8 + [8] * 8 + [4] * 8 + [2] * 8
    true = np.exp(9 - np.log(repeats) + 0.2 * rng.standard_normal(32))
    rounds = [{"step": int(s), "extracted": (true <= s).astype(int).tolist(), "repeats": repeats} for s in STEPS]
    found = forecast_of(rounds)
    assert set(found["levels"]) == {"2", "1"} and found["levels"]["2"]["covered"]
    assert found["levels"]["1"]["observed"] is None and found["levels"]["1"]["onset"] > found["levels"]["2"]["onset"]
    assert forecast_of(rounds[:1])["reason"] and forecast_of([])["reason"]
    assert "two levels" in forecast_of([{"step": 0, "extracted": [1, 1], "repeats": [8, 8]}])["reason"]
