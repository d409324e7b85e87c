"""When canaries begin to come back, by how often they are shown: a fit of the onsets, and what it says of fewer repeats.

*Why Diffusion Models Don't Memorize* (Bonnaire et al., NeurIPS 2025) has the onset of memorization grow in proportion to the number of
samples. The hypothesis here: a canary shown ``r`` times stands for a data set ``r`` times smaller, so its onset is at a step proportional
to 1 / r. Whether that holds in a run is what :func:`forecast` says of the levels that were not fitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri

from cxrguard.randomness import numpy_generator

Floats = NDArray[np.float64]
MIN_ONSETS = 4
"""Canaries that must have come back, over two levels at least, for a line to be drawn through them."""


@dataclass(frozen=True)
class Onsets:
    """Between which rounds each canary came back first.

    Attributes:
        repeats: showings an epoch, ``[N]``.
        low: the last step at which it had not come back yet, ``[N]``.
        high: the first at which it had; infinite where it never did, ``[N]``.

    """

    repeats: NDArray[np.int64]
    low: Floats
    high: Floats

    def of(self, levels: Sequence[int]) -> Onsets:
        """Those of some levels of repeats."""
        rows = np.isin(self.repeats, levels)
        return Onsets(self.repeats[rows], self.low[rows], self.high[rows])


def onsets(rounds: Sequence[Mapping[str, Any]], repeats: Sequence[int]) -> Onsets:
    """First steps at which each canary came back.

    Args:
        rounds: probe rounds in order, each with its ``step`` and ``extracted`` (one flag a canary).
        repeats: of the canaries, in the same order.

    """
    steps = np.array([r["step"] for r in rounds], np.float64)
    hits = np.array([r["extracted"] for r in rounds], bool)
    first = np.where(hits.any(axis=0), hits.argmax(axis=0), len(steps))
    known = np.append(steps, np.inf)
    low = np.where(first > 0, known[np.maximum(first, 1) - 1], 0.0)
    return Onsets(np.array(repeats, np.int64), np.where(np.isfinite(low), low, steps[-1]), known[first])


@dataclass(frozen=True)
class Fit:
    """log onset = ``a`` − ``b`` log repeats + ``sigma`` · normal (an accelerated failure time model with log-normal times)."""

    a: float
    b: float
    sigma: float

    def onset(self, repeats: int, share: float = 0.5) -> float:
        """The step at which ``share`` of canaries shown so often have come back."""
        return math.exp(self.a - self.b * math.log(repeats) + self.sigma * float(ndtri(share)))


def fit_onsets(data: Onsets, slope: float | None = None) -> Fit | None:
    """Maximum likelihood over interval- and right-censored onsets (Klein and Moeschberger 2003, sections 3.5 and 12.2).

    Args:
        data: the onsets.
        slope: holds ``b`` at this value: 1 for the hypothesis.

    Returns:
        None where fewer than :data:`MIN_ONSETS` canaries came back, or where (for a free slope) all have the same repeats.

    """
    from scipy.optimize import minimize  # half a second that most runs need not pay

    came = np.isfinite(data.high)
    if came.sum() < MIN_ONSETS or (slope is None and np.unique(data.repeats[came]).size < 2):
        return None
    logs = np.log(data.repeats)

    def unlikely(parameters: Floats) -> float:
        a, log_sigma, *free = parameters
        centre = a - (slope if slope is not None else free[0]) * logs
        return -float(_log_likelihood(data, centre, math.exp(log_sigma)).sum())

    start = [float(np.log(data.high[came]).mean() + logs[came].mean()), 0.0] + ([] if slope is not None else [1.0])
    bounds = [(None, None), (math.log(0.05), math.log(5))] + ([] if slope is not None else [(-3.0, 5.0)])
    found = minimize(unlikely, np.array(start), method="L-BFGS-B", bounds=bounds).x
    return Fit(float(found[0]), float(slope if slope is not None else found[2]), math.exp(found[1]))


def _log_likelihood(data: Onsets, centre: Floats, sigma: float) -> Floats:
    with np.errstate(divide="ignore"):
        low, high = ((np.log(x) - centre) / sigma for x in (data.low, data.high))
    never = ~np.isfinite(data.high)
    between = np.log(np.maximum(ndtr(np.where(never, 0, high)) - ndtr(low), 1e-300))
    each: Floats = np.where(never, log_ndtr(-low), between)
    return each


FEW_REPEATS = 4
"""Levels from this on are fitted; those below are predicted."""


def forecast_of(rounds: Sequence[Mapping[str, Any]], seed: int = 0) -> dict[str, Any]:
    """:func:`forecast` of a run's probe rounds: from the levels of 4 repeats and up to those below, and to one showing an epoch."""
    rounds = [r for r in rounds if r.get("extracted")]
    if not rounds:
        return _nothing("no probe round looked at canaries")
    repeats = rounds[-1]["repeats"]
    levels = sorted(set(repeats), reverse=True)
    fitted_on = [level for level in levels if level >= FEW_REPEATS]
    if len(fitted_on) < 2:
        return _nothing(f"the canaries have fewer than two levels of {FEW_REPEATS} repeats or more")
    return forecast(onsets(rounds, repeats), fitted_on, sorted({1, *levels} - set(fitted_on), reverse=True), seed)


def _nothing(reason: str) -> dict[str, Any]:
    return {"slope": None, "slope_ci": None, "levels": {}, "reason": reason}


def forecast(data: Onsets, fitted_on: Sequence[int], levels: Sequence[int], seed: int = 0, draws: int = 200) -> dict[str, Any]:
    """Fit the onsets at some levels of repeats and predict those at others.

    Args:
        data: all canaries.
        fitted_on: levels that the fit sees.
        levels: levels that it predicts.
        seed: of the bootstrap over canaries.
        draws: of it.

    Returns:
        ``slope`` with ``slope_ci`` (1 is the hypothesis) and, by level, ``onset`` (half of the canaries) with ``ci`` under slope 1, what
        was ``observed`` (the two rounds between which half had come back; the second null where that never happened) and whether
        the two agree (``covered``). Null with a ``reason`` where nothing can be fitted.

    """
    seen = data.of(fitted_on)
    held, free = fit_onsets(seen, slope=1.0), fit_onsets(seen)
    if held is None or free is None:
        return _nothing(f"fewer than {MIN_ONSETS} canaries came back, or all at one level")
    rng = numpy_generator("onset-forecast", seed)
    again = [_resampled(seen, rng) for _ in range(draws)]
    slopes = [f.b for f in map(fit_onsets, again) if f is not None]
    lines = [f for f in (fit_onsets(sample, slope=1.0) for sample in again) if f is not None]
    found = {str(level): _predicted(data, level, held, lines) for level in levels}
    return {"slope": free.b, "slope_ci": _interval(slopes), "levels": found, "reason": None}


def _resampled(data: Onsets, rng: np.random.Generator) -> Onsets:
    rows = rng.integers(0, len(data.repeats), len(data.repeats))
    return Onsets(data.repeats[rows], data.low[rows], data.high[rows])


def _predicted(data: Onsets, level: int, held: Fit, lines: Sequence[Fit]) -> dict[str, Any]:
    interval = _interval([line.onset(level) for line in lines])
    low, high = observed_onset(data.of([level]))
    covered = None if interval is None or math.isnan(low) else bool(interval[0] <= high and interval[1] >= low)
    shown = None if math.isnan(low) else [low, high if math.isfinite(high) else None]
    return {"onset": held.onset(level), "ci": interval, "observed": shown, "covered": covered}


def observed_onset(data: Onsets) -> tuple[float, float]:
    """The rounds between which half of the canaries had come back; NaN without a canary."""
    if not len(data.repeats):
        return math.nan, math.nan
    half = math.ceil(len(data.repeats) / 2) - 1
    place = np.argsort(data.high, kind="stable")[half]
    return float(data.low[place]), float(data.high[place])


def _interval(values: Sequence[float]) -> list[float] | None:
    if len(values) < 20:  # of fewer, a 95 % interval is the extremes
        return None
    return [float(x) for x in np.quantile(values, [0.025, 0.975])]
