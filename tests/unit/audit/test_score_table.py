"""``scores.csv``: complete, private, and without a name."""

from __future__ import annotations

import csv
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxrguard.audit.judge_detectors import Outcomes
from cxrguard.audit.score_table import ARM, COLUMNS, NAME, read_scores, write_scores
from cxrguard.errors import CxrguardError
from cxrguard.pseudonym import pseudonym

KEY = b"k" * 32
SIZES = {"canaries": 4, "controls": 5, "members": 3, "prompt_controls": 6}


class Grp(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.subjects)


def written(path: Path) -> tuple[dict[str, Any], Outcomes, dict[str, dict[str, np.ndarray]]]:
    rng = np.random.default_rng(0)
    groups: dict[str, Any] = {
        name: Grp(subjects=[f"id{i // 2}" for i in range(n)], prompts=[f"secret {name} {i}" for i in range(n)], repeats=list(range(n)))
        for name, n in SIZES.items()
    }
    hits = [{name: rng.random(n) < 0.5 for name, n in SIZES.items()} for _ in range(2)]
    outcomes = Outcomes(hits[0], hits[1], hits[1], 1, {name: tuple(g.subjects) for name, g in groups.items()}, (0, 1, 2, 3))
    scores = {
        "norm, first": {name: rng.normal(size=n) for name, n in SIZES.items()},
        "image": {name: rng.normal(size=n) for name, n in SIZES.items() if name != "prompt_controls"},
    }
    scores["image"]["members"][1] = np.nan
    scores["image"]["members"][2] = np.inf
    assert write_scores(path, groups, outcomes, scores, KEY) == path / NAME
    return groups, outcomes, scores


def test_every_prompt_is_there_under_pseudonyms(tmp_path: Path) -> None:
    groups, outcomes, scores = written(tmp_path)
    path = tmp_path / NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert "secret" not in text and "id0" not in text and "id1" not in text
    rows = list(csv.DictReader(path.open()))
    assert list(rows[0]) == [*COLUMNS, ARM, "norm, first", "image"] and len(rows) == sum(SIZES.values())
    at = 0
    for name, group in groups.items():
        for i in range(len(group)):
            row, at = rows[at], at + 1
            assert row["hash"] == pseudonym(KEY, group.prompts[i]) and row["group"] == name and row["repeats"] == str(i)
            assert row["patient"] == pseudonym(KEY, f"patient {group.subjects[i]}")
            assert (row["replays_own"], row["replays_any"]) == (str(int(outcomes.own[name][i])), str(int(outcomes.any[name][i])))
            assert float(row["norm, first"]) == scores["norm, first"][name][i]
            assert (row["image"] == "") == (name == "prompt_controls")


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    _, outcomes, scores = written(tmp_path)
    table = read_scores(tmp_path)
    assert table.groups == tuple(name for name, n in SIZES.items() for _ in range(n))
    assert table.own.tolist() == [bool(x) for name in SIZES for x in outcomes.own[name]]
    assert table.any.tolist() == [bool(x) for name in SIZES for x in outcomes.any[name]]
    assert table.repeats.tolist() == [i for n in SIZES.values() for i in range(n)]
    assert np.array_equal(table.scores["norm, first"], np.concatenate(list(scores["norm, first"].values())))
    with_images = np.array(table.groups) != "prompt_controls"
    assert (table.asked["image"] == with_images).all() and table.asked["norm, first"].all()
    assert np.array_equal(table.scores["image"][with_images], np.concatenate(list(scores["image"].values())), equal_nan=True)
    assert not any(patient in repr(table) for patient in table.patients)
    assert table.arms == ("",) * sum(SIZES.values())


def test_arms_of_a_study_of_the_marker_and_a_table_from_before_it(tmp_path: Path) -> None:
    groups, outcomes, scores = written(tmp_path)
    plain = read_scores(tmp_path)
    arms = {"canaries": ("marker", "word", "none", "marker"), "controls": ("word", "none", "marker", "word", "none"), "members": ()}
    write_scores(tmp_path, groups, outcomes, scores, KEY, arms)
    table = read_scores(tmp_path)
    assert table.arms == (*arms["canaries"], *arms["controls"], *[""] * 9)
    assert all(np.array_equal(table.scores[name], plain.scores[name], equal_nan=True) for name in plain.scores)
    lines = [line.split(",") for line in (tmp_path / NAME).read_text().replace('"norm, first"', "norm").splitlines()]
    before = [",".join([*line[: len(COLUMNS)], *line[len(COLUMNS) + 1 :]]) for line in lines]
    (tmp_path / NAME).write_text("\n".join(before) + "\n")
    old = read_scores(tmp_path)
    assert set(old.arms) == {""} and list(old.scores) == ["norm", "image"]
    assert np.array_equal(old.scores["norm"], plain.scores["norm, first"])


HEADER = ",".join(COLUMNS)


@pytest.mark.parametrize("text", [None, "", "a,b\n1,2\n", f"{HEADER},x\nh,p,canaries,1,0,0\n", f"{HEADER}\nh,p,g,x,0,0\n"])
def test_what_is_no_such_table_is_told_without_quoting_it(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / NAME).write_text(text)
    with pytest.raises(CxrguardError, match=r"scores\.csv in .* cannot be read") as caught:
        read_scores(tmp_path)
    assert "canaries" not in str(caught.value)
