"""Every detector against the outcome: the canaries' replays, the controls, the members, all prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cxrguard.audit.detectors import Scored, by_repeats, describe, outcome
from cxrguard.audit.roc import roc_curve

CONTROLS = ("controls", "prompt_controls")
Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Detector(Protocol):
    """What is judged: any :class:`~cxrguard.probes.batch.Probe`, or a score had otherwise; attributes as there."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def direction(self) -> str: ...  # noqa: D102

    @property
    def evals_per_prompt(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Outcomes:
    """What the prompts of each group did when images were generated under them.

    Attributes:
        own: by group, whether a prompt's own image came back, ``[N]``.
        any: by group, whether any training image did, ``[N]``.
        alike: by group, whether any did within as many samples as the group with the fewest has, ``[N]``.
        alike_draws: that number of samples a prompt (each in every wording).
        subjects: by group, the patients.
        repeats: of the canaries.

    """

    own: dict[str, Mask]
    any: dict[str, Mask]
    alike: dict[str, Mask]
    alike_draws: int
    subjects: dict[str, tuple[str, ...]]
    repeats: tuple[int, ...]


def judge_detectors(
    outcomes: Outcomes, scores: dict[str, dict[str, Scores]], detectors: Sequence[Detector], seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entries of ``detectors`` and of ``members.detectors``; the scores are by detector and group."""
    entries, members = {}, {}
    for detector in detectors:
        entries[detector.name], members[detector.name] = _judge(outcomes, scores[detector.name], detector, seed)
    return entries, members


def _judge(outcomes: Outcomes, scores: dict[str, Scores], detector: Detector, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    direction: Any = detector.direction
    quiet, controls = _quiet_controls(outcomes, scores)
    replayed = outcomes.own["canaries"]
    names = np.asarray(outcomes.subjects["canaries"], dtype=object)
    positives = Scored.of(scores["canaries"][replayed], list(names[replayed]))
    entry = describe(positives, quiet, direction, detector.evals_per_prompt, seed)
    entry["roc"] = roc_curve(positives, quiet, direction, seed)
    entry |= by_repeats(scores["canaries"], replayed, outcomes.repeats, list(names), quiet, controls, direction, seed)
    groups = [(s, outcomes.alike[name], outcomes.subjects[name]) for name, s in scores.items()]
    entry["outcome"] = outcome(groups, direction, seed, outcomes.alike_draws)
    member = describe(by_patient(scores["members"], outcomes.subjects["members"]), quiet, direction, detector.evals_per_prompt, seed)
    return entry, member


def _quiet_controls(outcomes: Outcomes, scores: dict[str, Scores]) -> tuple[Scored, Scores]:
    """Controls under which no training image comes back (spillover stands apart), and all controls' scores."""
    names = [name for name in CONTROLS if name in scores]
    kept = np.concatenate([~outcomes.any[name] for name in names])
    values = np.concatenate([scores[name] for name in names])
    subjects = np.concatenate([np.asarray(outcomes.subjects[name], dtype=object) for name in names])
    return Scored.of(values[kept], list(subjects[kept])), values


def by_patient(scores: Scores, subjects: Sequence[str]) -> Scored:
    """A patient's mean score.

    Not the worst: a control has one image, and a patient with more chances than that would look memorized for their
    number alone.

    Returns:
        A score a patient, in order of first appearance; scores that are not finite are left out and counted.

    """
    found = Scored.of(scores, subjects)
    grouped: dict[object, list[float]] = {}
    for score, subject in zip(found.scores.tolist(), found.clusters, strict=True):
        grouped.setdefault(subject, []).append(score)
    return Scored(np.array([float(np.mean(values)) for values in grouped.values()]), tuple(grouped), found.lost)
