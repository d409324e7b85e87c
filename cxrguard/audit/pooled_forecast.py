"""The forecast of onsets over runs that differ only in their seed: how often did it hold?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cxrguard.audit.intervals import wilson
from cxrguard.audit.paired import t_interval

HELD = 0.5
"""Runs in which it held, of those that can say, that the lower end of the interval must reach for the forecast to be called borne out."""


def pool_forecasts(forecasts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Coverage of the forecasts, by level of repeats, and the slopes.

    Args:
        forecasts: of each run, see :func:`cxrguard.audit.onset.forecast`.

    Returns:
        ``n_runs``; ``n_fitted`` (runs that a line could be fitted in); ``slope`` (their mean) with ``slope_ci`` (Student's over runs);
        ``slope_1_covered``: in how many of them the interval holds 1, the hypothesis; by ``levels`` ``n`` (runs that can say), ``held``,
        ``coverage`` with Wilson's ``coverage_ci``, ``borne_out`` (see :data:`HELD`) and a ``reason`` for what is null. None where no run
        fitted anything.

    """
    fitted = [f for f in forecasts if f["slope"] is not None]
    if not fitted:
        return None
    slopes = np.array([f["slope"] for f in fitted])
    interval = list(t_interval(slopes, np.arange(len(slopes)))) if np.ptp(slopes) > 0 else None
    known = [f["slope_ci"] for f in fitted if f["slope_ci"] is not None]
    names = sorted({name for f in fitted for name in f["levels"]}, key=int, reverse=True)
    return {
        "n_runs": len(forecasts),
        "n_fitted": len(fitted),
        "slope": float(slopes.mean()),
        "slope_ci": interval,
        "slope_1_covered": sum(low <= 1 <= high for low, high in known),
        "levels": {name: _coverage([f["levels"][name]["covered"] for f in fitted if name in f["levels"]]) for name in names},
        "reason": None if interval else "no interval of the slope: fewer than two runs, or all alike",
    }


def _coverage(covered: Sequence[bool | None]) -> dict[str, Any]:
    told = [bool(c) for c in covered if c is not None]
    interval = wilson(sum(told), len(told))
    return {
        "n": len(told),
        "held": sum(told),
        "coverage": sum(told) / len(told) if told else None,
        "coverage_ci": None if interval is None else list(interval),
        "borne_out": None if interval is None else interval[0] >= HELD,
        "reason": None if told else "no run has canaries of this level and an interval",
    }
