"""How often the forecast held, over runs."""

from __future__ import annotations

from typing import Any

import pytest

from cxrguard.audit.intervals import wilson
from cxrguard.audit.onset import forecast_of
from cxrguard.audit.pooled_forecast import pool_forecasts


def run(slope: float, covered: bool | None, ci: list[float] | None = None) -> dict[str, Any]:
    levels = {"2": {"onset": 1.0, "ci": None, "observed": None, "covered": covered}, "1": {"covered": None}}
    return {"slope": slope, "slope_ci": ci, "levels": levels, "reason": None}


def test_coverage_is_over_the_runs_that_can_say() -> None:
    nothing = forecast_of([])
    runs = [run(0.9, True, [0.7, 1.1]), run(1.3, False, [1.1, 1.5]), run(1.1, True, None), run(1.0, None), nothing]
    told = pool_forecasts(runs)
    assert told is not None
    two, one = told["levels"]["2"], told["levels"]["1"]
    assert (told["n_runs"], told["n_fitted"], told["slope_1_covered"]) == (5, 4, 1) and told["slope"] == pytest.approx(1.075)
    assert (two["n"], two["held"]) == (3, 2) and two["coverage_ci"] == list(wilson(2, 3) or ()) and two["borne_out"] is False
    assert one["coverage"] is None and one["borne_out"] is None and "no run" in one["reason"]
    # Student's over four runs, by hand: 1.075 ± 3.182 * 0.1708 / 2
    assert told["slope_ci"] == pytest.approx([0.8033, 1.3467], abs=0.002)


def test_many_runs_in_which_it_held_bear_it_out() -> None:
    told = pool_forecasts([run(1 + i / 100, True) for i in range(6)])
    assert told is not None and told["levels"]["2"]["borne_out"] is True


def test_where_nothing_was_fitted_there_is_nothing_to_pool() -> None:
    assert pool_forecasts([forecast_of([])]) is None


def test_one_run_has_no_interval_of_its_slope() -> None:
    told = pool_forecasts([run(1.0, True)])
    assert told is not None and told["slope_ci"] is None and told["reason"]
