"""The combination of detectors against a loop over prompts; above all, no canary has a part in its scale."""

from __future__ import annotations

import statistics
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxrguard.audit.combination import MIN_PATIENTS, Combination, combinations_of
from cxrguard.audit.judge_detectors import Outcomes, judge_detectors

SIZES = {"canaries": 8, "controls": 120, "members": 5, "prompt_controls": 30}
DETECTORS: list[Any] = [
    SimpleNamespace(name="up", direction="higher", evals_per_prompt=2),
    SimpleNamespace(name="down", direction="lower", evals_per_prompt=6),
]
SUBJECTS = {name: tuple(f"{'c' if 'control' in name else name}{i // 2}" for i in range(n)) for name, n in SIZES.items()}


def scores_of(seed: int = 0, shift: float = 0.0) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return {
        d.name: {
            name: (1 if d.direction == "higher" else -10) * (shift * (name == "canaries") + rng.normal(3, 1, n))
            for name, n in SIZES.items()
        }
        for d in DETECTORS
    }


def combination() -> Combination:
    (found,) = combinations_of({"both": ["up", "down"]}, DETECTORS)
    return found


def by_loop(scores: dict[str, dict[str, np.ndarray]], group: str, row: int) -> float:
    patient, parts = SUBJECTS[group][row], []
    for detector in DETECTORS:
        sign = 1 if detector.direction == "higher" else -1
        others = [
            sign * value
            for name in ("controls", "prompt_controls")
            for who, value in zip(SUBJECTS[name], scores[detector.name][name].tolist(), strict=True)
            if who != patient
        ]
        middle = statistics.median(others)
        width = 1.4826 * statistics.median([abs(value - middle) for value in others])
        parts.append((sign * float(scores[detector.name][group][row]) - middle) / width)
    return sum(parts) / len(parts)


def test_each_score_is_measured_by_the_controls_of_other_patients() -> None:
    scores, both = scores_of(), combination()
    assert (both.name, both.of, both.evals_per_prompt, both.direction) == ("both", ("up", "down"), 8, "higher")
    found = both.score(scores, SUBJECTS)
    assert {name: len(values) for name, values in found.items()} == SIZES
    for group, n in SIZES.items():
        assert found[group].tolist() == pytest.approx([by_loop(scores, group, row) for row in range(n)], rel=1e-9)


def test_no_canary_and_no_member_has_a_part_in_it() -> None:
    scores, both = scores_of(), combination()
    before = both.score(scores, SUBJECTS)
    for part in scores.values():
        part["canaries"][1:] += 1000.0
        part["members"][:] *= -7.0
    after = both.score(scores, SUBJECTS)
    assert after["canaries"][0] == before["canaries"][0] and after["canaries"][1] != before["canaries"][1]
    for name in ("controls", "prompt_controls"):
        assert after[name].tolist() == before[name].tolist()


def test_a_controls_own_score_has_no_part_in_its_scale_nor_has_its_patients() -> None:
    scores, both = scores_of(), combination()
    before = both.score(scores, SUBJECTS)
    scores["up"]["controls"][1] += 1e6  # the same patient as row 0, and as row 0 of the prompt-only controls
    after = both.score(scores, SUBJECTS)
    assert after["controls"][0] == before["controls"][0] and after["prompt_controls"][0] == before["prompt_controls"][0]
    assert after["controls"][2] != before["controls"][2]


def test_the_parts_units_make_no_difference() -> None:
    scores, both = scores_of(), combination()
    before = both.score(scores, SUBJECTS)
    scores["up"] = {name: 1e4 * values - 5 for name, values in scores["up"].items()}
    after = both.score(scores, SUBJECTS)
    for name in SIZES:
        assert after[name] == pytest.approx(before[name], rel=1e-6, abs=1e-9)


def test_it_is_judged_like_any_detector_and_beats_its_parts_where_they_err_apart() -> None:
    scores, both = scores_of(shift=1.5), combination()
    scores["both"] = both.score(scores, SUBJECTS)
    hits = {name: np.full(n, name == "canaries") for name, n in SIZES.items()}
    outcomes = Outcomes(hits, hits, hits, 1, SUBJECTS, (1,) * SIZES["canaries"])
    entries, members = judge_detectors(outcomes, scores, [*DETECTORS, both], 0)
    assert entries["both"]["auc"] > max(entries["up"]["auc"], entries["down"]["auc"]) > 0.7
    assert entries["both"]["evals_per_prompt"] == 8 and entries["both"]["tpr_at_1pct_fpr"] is not None
    assert 0.2 < members["both"]["auc"] < 0.8


def test_what_cannot_be_scaled_is_nan_and_null_with_a_reason() -> None:
    both = combination()
    n = MIN_PATIENTS  # each control has MIN_PATIENTS − 1 others
    subjects = {"canaries": ("a", "b"), "controls": tuple(map(str, range(n)))}
    few = {part: {"canaries": np.arange(2.0), "controls": np.arange(float(n))} for part in ("up", "down")}
    found = both.score(few, subjects)
    assert np.isfinite(found["canaries"]).all() and np.isnan(found["controls"]).all()
    few["up"]["controls"][:] = 1.0  # no width
    assert np.isnan(both.score(few, subjects)["canaries"]).all()
    few["up"]["controls"] = np.arange(float(n))
    few["down"]["canaries"][0] = np.nan
    assert np.isnan(both.score(few, subjects)["canaries"]).tolist() == [True, False]
    few["down"].pop("controls")  # a part that did not score the controls
    assert list(both.score(few, subjects)) == ["canaries"] and np.isnan(both.score(few, subjects)["canaries"]).all()


def test_only_what_the_run_has_is_combined() -> None:
    assert combinations_of(None, DETECTORS) == []
    assert combinations_of({"a": None, "b": ["up"], "c": ["up", "up"], "d": ["up", "other"], "up": ["up", "down"]}, DETECTORS) == []
