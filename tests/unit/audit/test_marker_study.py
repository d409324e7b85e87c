"""The marker study: a known effect is found and measured, none is not invented; figures against loops."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrguard.audit.marker_study import StudyRun, marker_study
from cxrguard.audit.score_table import ARM, COLUMNS, NAME, ScoreTable, read_scores
from cxrguard.audit.study import collect_study, write_study
from cxrguard.data.prompt_form import ARMS, PromptForm

Audit = dict[str, Any]
N, N_CONTROLS = 18, 60
DIRECTIONS: Any = {"up": "higher", "down": "lower"}


def table(seed: int, shift: int, effect: float, form_effect: float = 0.0) -> ScoreTable:
    """A run of the study: the marker raises a canary's chance to be extracted by ``effect``, and every score of a marked prompt by
    ``form_effect`` whether it was trained on or not."""
    own = np.random.default_rng([seed, 7])
    luck = own.random(N)  # a canary is as easy to memorize in each arm
    rng = np.random.default_rng([seed, shift])
    form = PromptForm(seed, True, ARMS, shift)
    arms = [form.arm_of_planted(i) for i in range(N + N_CONTROLS)]
    marked = np.array([arm == "marker" for arm in arms])
    hits = luck < 0.35 + effect * marked[:N]
    memory = np.concatenate([2.0 * hits, np.zeros(N_CONTROLS)])
    up = rng.normal(memory + form_effect * marked, 0.5)
    down = -rng.normal(memory + form_effect * marked, 0.5)
    groups = ("canaries",) * N + ("controls",) * N_CONTROLS + ("members",) * 5
    pad = np.zeros(5)
    replays = np.concatenate([hits, np.zeros(N_CONTROLS + 5, bool)])
    patients = tuple(f"p{i}" for i in range(len(groups)))
    scores = {"up": np.concatenate([up, pad]), "down": np.concatenate([down, pad])}
    asked = {name: np.ones(len(groups), bool) for name in scores}
    return ScoreTable(patients, groups, np.full(len(groups), 8), replays, replays, scores, asked, (*arms, *[""] * 5))


def runs(effect: float, form_effect: float = 0.0, seeds: int = 4, shifts: tuple[int, ...] = (0, 1, 2), first: int = 0) -> list[StudyRun]:
    return [StudyRun(str(seed), table(seed, shift, effect, form_effect)) for seed in range(first, first + seeds) for shift in shifts]


def row_of(study: dict[str, Any], first: str, second: str) -> dict[str, Any]:
    (row,) = [row for row in study["differences"] if (row["first"], row["second"]) == (first, second)]
    return row


def test_a_known_effect_is_found() -> None:
    study = marker_study(runs(0.4), DIRECTIONS)
    assert [row["arm"] for row in study["by_arm"]] == list(ARMS) and all(row["n"] == 4 * N for row in study["by_arm"])
    assert [(row["first"], row["second"]) for row in study["differences"]] == [("marker", "word"), ("marker", "none"), ("word", "none")]
    for second in ("word", "none"):
        row = row_of(study, "marker", second)
        low, high = row["extraction"]["ci"]
        assert 0 < low < 0.4 < high < 0.6 and row["extraction"]["n"] == 4 * N
        for name in DIRECTIONS:
            assert row["detectors"][name]["ci"][0] > 0  # bits, memorized upwards, whichever way the score points
    none = row_of(study, "word", "none")
    assert none["extraction"]["mean"] == 0 and none["extraction"]["ci"][0] < 0 < none["extraction"]["ci"][1]
    assert none["detectors"]["up"]["ci"][0] < 0 < none["detectors"]["up"]["ci"][1]


def test_no_effect_is_not_invented_even_where_the_marker_raises_every_score() -> None:
    study = marker_study(runs(0.0, form_effect=3.0), DIRECTIONS)
    raised = {row["arm"]: row["detectors"]["up"]["score"] for row in study["by_arm"]}
    assert raised["marker"] - raised["none"] == pytest.approx(3.0, abs=0.3)
    for row in study["differences"]:
        for found in (row["extraction"], *row["detectors"].values()):
            assert found["ci"][0] < 0 < found["ci"][1]


def test_intervals_cover_no_effect_about_as_often_as_they_say() -> None:
    """Canaries whose luck is drawn anew in each arm: by chance alone an interval leaves 0 out once in 20 times."""
    missed = 0
    for trial in range(60):
        rng = np.random.default_rng(trial)
        made = runs(0.0, seeds=1, first=trial)
        for run in made:
            run.table.own[:N] = rng.random(N) < 0.4
        low, high = row_of(marker_study(made, {}, n=200), "marker", "word")["extraction"]["ci"]
        missed += not low <= 0 <= high
    assert missed <= 7


def test_figures_against_loops() -> None:
    made = runs(0.3, 1.0, seeds=2)
    study = marker_study(made, DIRECTIONS)
    cells: dict[tuple[str, str], dict[str, tuple[bool, float, float]]] = {}
    for run in made:
        t = run.table
        for i in range(N):
            beat = [t.scores["up"][j] for j in range(N, N + N_CONTROLS) if t.arms[j] == t.arms[i]]
            rank = 1 + sum(s > t.scores["up"][i] for s in beat)
            bits = math.log2(len(beat) + 1) - math.log2(rank)
            cells.setdefault((run.seed, t.patients[i]), {})[t.arms[i]] = (bool(t.own[i]), bits, float(t.scores["up"][i]))
    assert len(cells) == 2 * N and all(set(cell) == set(ARMS) for cell in cells.values())  # each canary once in each arm
    for row in study["by_arm"]:
        mine = [cell[row["arm"]] for cell in cells.values()]
        assert row["extraction_rate"] == pytest.approx(np.mean([hit for hit, _, _ in mine]))
        assert row["detectors"]["up"]["exposure"] == pytest.approx(np.mean([bits for _, bits, _ in mine]))
        assert row["detectors"]["up"]["score"] == pytest.approx(np.mean([score for _, _, score in mine]))
    for row in study["differences"]:
        gaps = [
            (int(cell[row["first"]][0]) - int(cell[row["second"]][0]), cell[row["first"]][1] - cell[row["second"]][1])
            for cell in cells.values()
        ]
        assert row["extraction"]["mean"] == pytest.approx(np.mean([gap for gap, _ in gaps]))
        assert row["detectors"]["up"]["mean"] == pytest.approx(np.mean([gap for _, gap in gaps]))
        assert [(each["seed"], each["n"]) for each in row["by_seed"]] == [("0", N), ("1", N)]
        for each in row["by_seed"]:
            mine = [int(c[row["first"]][0]) - int(c[row["second"]][0]) for (seed, _), c in cells.items() if seed == each["seed"]]
            assert each["mean"] == pytest.approx(np.mean(mine))


def test_without_the_other_shifts_there_are_no_pairs() -> None:
    study = marker_study(runs(0.4, seeds=3, shifts=(0,)), DIRECTIONS)
    assert [row["n"] for row in study["by_arm"]] == [N] * 3
    for row in study["differences"]:
        assert row["extraction"]["mean"] is None and row["extraction"]["ci"] is None and row["by_seed"] == []
        assert "canaries.arm_shift=0,1,2" in row["extraction"]["reason"]
        assert row["detectors"]["up"]["mean"] is None and "two pairs are needed" in row["detectors"]["up"]["reason"]


def test_scores_that_are_not_finite_and_controls_without_an_arm_are_told() -> None:
    made = runs(0.4, seeds=1)
    for run in made:
        run.table.scores["up"][3] = np.nan
    found = row_of(marker_study(made, DIRECTIONS), "marker", "none")["detectors"]
    assert found["up"]["n"] == N - 1 and "1 differences were not finite" in found["up"]["reason"] and found["down"]["n"] == N
    bare = [StudyRun(run.seed, ScoreTable(**{**vars(run.table), "arms": (*run.table.arms[:N], *[""] * (N_CONTROLS + 5))})) for run in made]
    assert row_of(marker_study(bare, DIRECTIONS), "marker", "none")["detectors"]["down"]["mean"] is None


def write_table(run_dir: Path, found: ScoreTable) -> None:
    lines = [",".join([*COLUMNS, ARM, *found.scores])]
    for i, patient in enumerate(found.patients):
        hit = str(int(found.own[i]))
        lines.append(
            ",".join([f"h{i}", patient, found.groups[i], "8", hit, hit, found.arms[i], *(repr(float(s[i])) for s in found.scores.values())])
        )
    (run_dir / NAME).write_text("\n".join(lines) + "\n")


@pytest.fixture
def sweep(tmp_path: Path, audit: Audit, write_run: Callable[..., Path]) -> Path:
    """Two seeds with three shifts at one setting, of which one was run twice, one shift at another, and a run without arms."""
    root = tmp_path / "study"
    audit["detectors"] = {name: audit["detectors"]["text_noise_norm"] | {"direction": way} for name, way in DIRECTIONS.items()}
    audit["curves"] = []
    cases = [("a", seed, shift) for seed in (1, 2) for shift in (0, 1, 2)] + [("a", 2, 2), ("b", 1, 0), ("c", 1, None)]
    for number, (setting, seed, shift) in enumerate(cases):
        made = copy.deepcopy(audit) | {"seed": seed}
        if shift is not None:
            made["canaries"]["by_arm"] = [{"arm": arm, "n": 6, "extraction_rate": 0.5, "extraction_ci": [0.2, 0.8]} for arm in ARMS]
        run_dir = write_run(root / str(number), made, {"status": "done", "error": None, "seed": seed})
        turned = [] if shift is None else [f"canaries.arm_shift={shift}"]
        (run_dir / ".hydra" / "overrides.yaml").write_text("".join(f"- {item}\n" for item in [f"x={setting}", *turned, f"seed={seed}"]))
        write_table(run_dir, table(seed, shift or 0, 0.4))
    return root


def test_a_sweep_is_studied_by_setting(sweep: Path) -> None:
    told = collect_study(sweep)["marker_study"]
    assert json.loads((sweep / "study.json").read_text())["marker_study"] == told
    assert [(entry["overrides"], entry["seeds"], entry["dirs"]) for entry in told] == [
        (["x=a"], [1, 2], ["0", "1", "2", "3", "4", "5"]),
        (["x=b"], [1], ["7"]),
    ]
    expected = marker_study([StudyRun(str(seed), read_scores(sweep / str(i))) for i, seed in enumerate((1, 1, 1, 2, 2, 2))], DIRECTIONS)
    assert {key: told[0][key] for key in expected} == expected and told[0]["reason"] is None
    assert row_of(told[0], "marker", "none")["extraction"]["ci"][0] > 0
    assert "canaries.arm_shift=0,1,2" in row_of(told[1], "marker", "none")["extraction"]["reason"]


def test_the_page_shows_it(sweep: Path) -> None:
    text = write_study(sweep).read_text()
    told = collect_study(sweep)["marker_study"]
    assert text.count("Does the marker itself raise memorization?") == 2 and "marker less word" in text
    for key in (
        "by_arm.0.extraction_rate",
        "differences.1.extraction.mean",
        "differences.1.detectors.up.mean",
        "by_arm.2.detectors.down.exposure",
    ):
        value: Any = told[0]
        for part in key.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        assert f'<data value="{value}" data-key="{key}">' in text
    assert "no canary was in both arms" in text  # why the second setting's differences are null


def test_a_table_that_cannot_be_used_is_told_and_other_sweeps_have_no_such_section(sweep: Path) -> None:
    (sweep / "1" / NAME).unlink()
    write_table(sweep / "7", ScoreTable(**{**vars(table(1, 0, 0.4)), "arms": ("",) * (N + N_CONTROLS + 5)}))
    told = collect_study(sweep)["marker_study"]
    assert "scores.csv in 1 cannot be read" in told[0]["reason"] and told[0]["by_arm"] == []
    assert "has an arm" in told[1]["reason"]
    assert "scores.csv in 1 cannot be read" in write_study(sweep).read_text()
    for path in sweep.iterdir():
        if path.is_dir() and path.name != "8":
            (path / "audit.json").unlink()
    assert "marker_study" not in collect_study(sweep)
