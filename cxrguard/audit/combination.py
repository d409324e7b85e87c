"""A detector made of others: their scores on one scale, which controls alone set, and then their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrguard.audit.judge_detectors import CONTROLS, Detector
from cxrguard.audit.statistics import Direction

MIN_PATIENTS = 10
"""Of the controls beside the one that is scored: a scale from fewer says nothing."""
_NORMAL = 1.4826  # the median absolute deviation of a normal distribution, as a standard deviation
Scores = NDArray[np.float64]
Strings = NDArray[np.str_]


@dataclass(frozen=True)
class Combination:
    """mean_d ±(s_d − median_d) / (1.4826 · MAD_d) over detectors d, with median and MAD of the controls' scores, + where higher means
    memorized and − where lower does.

    Nothing is fitted: weights are equal, and no canary, no member and no outcome has a part in it, so that the canaries that judge it are
    new to it. The controls judge it too, so each is measured by the controls of *other* patients. Median and MAD, for some
    controls replay (spillover), and a mean would take them for ordinary. Range (−∞, ∞), about 0 for a control; higher means memorized. It
    costs what its parts cost.

    Attributes:
        name: the name in the audit.
        of: the detectors.
        evals_per_prompt: of all of them.

    """

    name: str
    of: tuple[str, ...]
    evals_per_prompt: int
    directions: tuple[str, ...]
    direction: Direction = "higher"

    def score(self, scores: Mapping[str, Mapping[str, Scores]], subjects: Mapping[str, Sequence[str]]) -> dict[str, Scores]:
        """Scores ``[N]`` of every group that all parts have scored; NaN where a part has none, or too few controls set its scale.

        Args:
            scores: by detector and group.
            subjects: by group, the patients.

        """
        groups = [name for name in scores[self.of[0]] if all(name in scores[part] for part in self.of)]
        scaled = [self._scaled(scores[part], subjects, groups, way) for part, way in zip(self.of, self.directions, strict=True)]
        return {name: np.mean([part[name] for part in scaled], axis=0) for name in groups}

    def _scaled(
        self, scores: Mapping[str, Scores], subjects: Mapping[str, Sequence[str]], groups: Sequence[str], direction: str
    ) -> dict[str, Scores]:
        sign, names = (1.0 if direction == "higher" else -1.0), [name for name in groups if name in CONTROLS]
        controls = np.concatenate([np.zeros(0), *(sign * scores[name] for name in names)])
        patients = np.array([patient for name in names for patient in subjects[name]], dtype=str)
        finite = np.isfinite(controls)
        controls, patients = controls[finite], patients[finite]
        everyone = _Scale.of(controls, patients)
        found = {}
        for name in groups:
            values = sign * scores[name]
            if name not in CONTROLS:
                found[name] = everyone(values)
                continue
            others = {patient: _Scale.of(controls[patients != patient], patients[patients != patient]) for patient in set(subjects[name])}
            found[name] = np.array([others[patient](value) for patient, value in zip(subjects[name], values, strict=True)])
        return found


@dataclass(frozen=True)
class _Scale:
    """What an ordinary score is, and how far such scores lie from it; NaN where the controls cannot say."""

    middle: float
    width: float

    @classmethod
    def of(cls, controls: Scores, patients: Strings) -> _Scale:
        if np.unique(patients).size < MIN_PATIENTS:
            return cls(np.nan, np.nan)
        middle = float(np.median(controls))
        width = _NORMAL * float(np.median(np.abs(controls - middle)))
        return cls(middle, width if width > 0 else np.nan)

    def __call__(self, values: Any) -> Any:
        return (values - self.middle) / self.width


def combinations_of(asked: Mapping[str, Sequence[str] | None] | None, detectors: Sequence[Detector]) -> list[Combination]:
    """Those of ``asked`` (detectors by the combination's name) whose parts the run has, two at least.

    Args:
        asked: ``combinations`` of the configuration; None for a name takes it out.
        detectors: of the run.

    """
    known = {detector.name: detector for detector in detectors}
    found = []
    for name, parts in (asked or {}).items():
        if name not in known and parts and len(set(parts)) > 1 and all(part in known for part in parts):
            chosen = [known[part] for part in dict.fromkeys(parts)]
            cost, ways = sum(part.evals_per_prompt for part in chosen), tuple(part.direction for part in chosen)
            found.append(Combination(name, tuple(part.name for part in chosen), cost, ways))
    return found
