"""Pooled figures against loops over runs, patients and pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cxrguard.audit.detectors import Scored
from cxrguard.audit.pooled import Run, pool, pool_detector
from cxrguard.audit.score_table import ScoreTable

Side = dict[str, list[float]]


def run_of(seed: int, n_pos: int, n_neg: int, shift: float = 1.5, scale: float = 1.0, each: int = 2) -> tuple[Side, Side]:
    """Scores by patient, ``each`` images a patient that look alike; every run has its own scale."""
    rng = np.random.default_rng(seed)

    def side(n: int, centre: float) -> Side:
        return {f"p{i}": [scale * float(x) for x in rng.normal(centre, 1) + rng.normal(0, 0.2, each)] for i in range(n)}

    return side(n_pos, shift), side(n_neg, 0.0)


def made(pos: Side, neg: Side) -> Run:
    flat = [([x for xs in side.values() for x in xs], [name for name, xs in side.items() for _ in xs]) for side in (pos, neg)]
    return Run(*(Scored.of(scores, names) for scores, names in flat))


def auc_by_loops(runs: list[tuple[Side, Side]]) -> float:
    """Over all positives: the share of the controls of its own run that each beats."""
    wins = []
    for pos, neg in runs:
        negatives = [y for ys in neg.values() for y in ys]
        wins += [np.mean([(x > y) + 0.5 * (x == y) for y in negatives]) for xs in pos.values() for x in xs]
    return float(np.mean(wins))


def test_auc_compares_within_a_run_only() -> None:
    runs = [run_of(0, 8, 40), run_of(1, 5, 30, scale=100.0), run_of(2, 3, 20, shift=0.0)]
    found = pool_detector([made(*run) for run in runs], "higher", n=50)
    assert found["auc"] == pytest.approx(auc_by_loops(runs))
    assert found["n_runs"] == 3 and found["n_positives"] == 32 and found["n_negatives"] == 180
    scaled = pool_detector([made(*run_of(i, 8, 40, scale=s)) for i, s in enumerate((1.0, 1e6))], "higher", n=50)
    assert scaled == pool_detector([made(*run_of(i, 8, 40)) for i in range(2)], "higher", n=50)


def test_the_interval_by_resampling_runs_and_patients_by_hand() -> None:
    runs = [run_of(0, 30, 60, 2.5), run_of(1, 30, 60, 1.0), run_of(2, 30, 60, 0.4), run_of(3, 30, 60, 0.2)]
    found = pool_detector([made(*run) for run in runs], "higher", n=2000)
    rng = np.random.default_rng(9)
    areas = []
    for _ in range(400):
        drawn = []
        for index in rng.integers(0, 4, 4):
            sides = []
            for side in runs[index]:
                names = list(side)
                sides.append({f"{i}": side[names[j]] for i, j in enumerate(rng.integers(0, len(names), len(names)))})
            drawn.append(tuple(sides))
        areas.append(auc_by_loops(drawn))  # type: ignore[arg-type]
    by_hand = np.percentile(areas, [2.5, 97.5])
    assert found["auc_ci"] == pytest.approx(by_hand, abs=0.035)
    alone = [pool_detector([made(*run), made(*run)], "higher", n=500)["auc_ci"] for run in runs]
    assert found["auc_ci"][1] - found["auc_ci"][0] > max(high - low for low, high in alone)  # runs differ, and that counts


def test_tpr_at_each_runs_own_threshold() -> None:
    runs = [run_of(0, 6, 60), run_of(1, 9, 80, scale=50.0)]
    found = pool_detector([made(*run) for run in runs], "higher", n=300)
    hits = []
    for pos, neg in runs:
        negatives = sorted((y for ys in neg.values() for y in ys), reverse=True)
        cut = negatives[int(0.01 * len(negatives) + 1e-9)]
        hits += [x > cut for xs in pos.values() for x in xs]
    assert found["tpr_at_1pct_fpr"] == pytest.approx(np.mean(hits))
    low, high = found["tpr_at_1pct_fpr_ci"]
    assert 0 <= low <= found["tpr_at_1pct_fpr"] <= high <= 1 and high > low
    assert found["tpr_at_01pct_fpr"] is None and "1,000 controls" in found["reason"]


def test_perfect_separation_still_has_a_width() -> None:
    perfect = pool_detector(
        [made({"a": [9.0], "b": [8.0]}, {f"n{i}": [float(i % 3)] for i in range(1000)}) for _ in range(2)], "higher", n=100
    )
    assert perfect["auc"] == perfect["tpr_at_01pct_fpr"] == 1.0
    assert perfect["auc_ci"][0] < 0.9 and perfect["tpr_at_01pct_fpr_ci"][0] < 0.7 and perfect["reason"] is None


@pytest.mark.parametrize("sizes", [[(3, 9)], [(3, 9), (0, 9)], [(0, 0), (0, 4)], []])
def test_fewer_than_two_usable_runs_give_null_with_a_reason(sizes: list[tuple[int, int]]) -> None:
    found = pool_detector([made(*run_of(i, *size)) for i, size in enumerate(sizes)], "higher", n=20)
    assert all(found[key] is None for key in found if key.startswith(("auc", "tpr")))
    assert "two runs are needed" in found["reason"]


def table(seed: int, names: dict[str, float]) -> ScoreTable:
    rng = np.random.default_rng(seed)
    groups = ("canaries",) * 20 + ("controls",) * 30 + ("members",) * 10 + ("prompt_controls",) * 80
    is_canary, prompt_only = np.array(groups) == "canaries", np.array(groups) == "prompt_controls"
    own = (rng.random(140) < 0.6) & is_canary
    scores = {name: rng.normal(shift * own, 1) for name, shift in names.items()}
    scores["up"][25] = np.nan
    asked = {name: np.ones(140, bool) if name == "up" else ~prompt_only for name in names}
    patients = tuple(f"{i}" for i in range(140))
    return ScoreTable(patients, groups, np.ones(140, int), own, own | (rng.random(140) < 0.2), scores, asked)


def test_positives_and_negatives_are_chosen_as_in_an_audit() -> None:
    tables = [table(i, {"up": 2.0, "down": -2.0, **({"only": 1.0} if i else {})}) for i in range(3)]
    directions: Any = {"up": "higher", "down": "lower", "only": "higher"}
    found = pool(tables, directions, n=50)
    assert list(found) == ["up", "down"]  # what a run lacks is not pooled
    for name, sign, of in (("up", 1, ("controls", "prompt_controls")), ("down", -1, ("controls",))):
        runs, lost = [], 0
        for t in tables:
            rows = list(zip(t.groups, t.own, t.any, sign * t.scores[name], t.patients, strict=True))
            pos = {who: [s] for group, own, _, s, who in rows if group == "canaries" and own}
            neg = {who: [s] for group, _, hit, s, who in rows if group in of and not hit}
            lost += sum(bool(np.isnan(s)) for (s,) in neg.values())
            runs.append((pos, {who: s for who, s in neg.items() if not np.isnan(s[0])}))
        assert found[name]["auc"] == pytest.approx(auc_by_loops(runs))
        assert found[name]["direction"] == directions[name]
        assert (f"{lost} scores were not finite" in found[name]["reason"]) == bool(lost)
