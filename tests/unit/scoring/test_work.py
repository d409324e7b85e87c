from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from cxrguard.errors import BadInputError, CxrguardError
from cxrguard.scoring.prompts import PromptTable, UniquePrompts, prompt_table
from cxrguard.scoring.work import WorkDirectory
from cxrguard.scoring.worker import shares


def add(work: WorkDirectory, *numbers: int) -> None:
    work.add(0, numbers, np.array([[n, 2.0 * n] for n in numbers], np.float32), [n % 2 == 1 for n in numbers])


def test_parts_are_found_again(tmp_path: Path) -> None:
    work = WorkDirectory(tmp_path / "o.partial", "abc", ["a", "b"])
    with work.open(resume=True) as start:
        assert start == "new"
        add(work, 0, 3)
        add(work, 1)
    again = WorkDirectory(tmp_path / "o.partial", "abc", ["a", "b"])
    with again.open(resume=True) as start:
        done, scores, cut = again.load(5)
    assert start == "resumed"
    assert list(done) == [True, True, False, True, False]
    assert list(scores[3]) == [3, 6]
    assert np.isnan(scores[2]).all()
    assert list(np.flatnonzero(cut)) == [1, 3]
    assert {stat.S_IMODE(path.stat().st_mode) for path in work.path.iterdir()} == {0o600}
    assert stat.S_IMODE(work.path.stat().st_mode) == 0o700


def test_a_run_that_goes_on_under_the_same_process_id_writes_over_nothing(tmp_path: Path) -> None:
    """As in a container, where every run has the same."""
    for number in (0, 1):
        work = WorkDirectory(tmp_path / "o.partial", "abc", ["a", "b"])
        with work.open(resume=True):
            add(work, number)
            done = work.load(2)[0]
    assert list(done) == [True, True]


def test_another_job_starts_afresh(tmp_path: Path) -> None:
    work = WorkDirectory(tmp_path / "o.partial", "abc", ["a", "b"])
    with work.open(resume=True):
        add(work, 0)
    other = WorkDirectory(tmp_path / "o.partial", "xyz", ["a"])
    with other.open(resume=True) as start:
        assert start == "other"
        assert not other.load(2)[0].any()
    assert not work.path.exists()  # nothing worth keeping
    with work.open(resume=True):
        add(work, 0)
    with work.open(resume=False) as start:
        assert start == "unwanted"


def test_a_damaged_part_is_scored_again(tmp_path: Path) -> None:
    work = WorkDirectory(tmp_path / "o.partial", "abc", ["a", "b"])
    with work.open(resume=True):
        add(work, 0)
        add(work, 1)
        damaged = sorted(work.path.glob("*.parquet"))[1]
        damaged.write_bytes(damaged.read_bytes()[:50])
        assert list(work.load(2)[0]) == [True, False]
        assert not damaged.exists()


def test_two_runs_and_a_directory_of_the_users_own(tmp_path: Path) -> None:
    work = WorkDirectory(tmp_path / "o.partial", "abc", ["a", "b"])
    with work.open(resume=True):
        there = set(work.path.iterdir())
        with (
            pytest.raises(CxrguardError, match="another run is writing there"),
            WorkDirectory(tmp_path / "o.partial", "abc", ["a", "b"]).open(resume=True),
        ):
            pass
        assert set(work.path.iterdir()) == there != set()  # the run that is on has its directory still, with nothing scored yet
    theirs = tmp_path / "mine.partial"
    theirs.mkdir()
    (theirs / "thesis.parquet").write_text("")
    with pytest.raises(CxrguardError, match="is in the way"), WorkDirectory(theirs, "abc", ["a"]).open(resume=True):
        pass
    assert (theirs / "thesis.parquet").exists()


def table(folder: Path, prompts: list[str]) -> PromptTable:
    path = folder / "p.txt"
    path.write_text("".join(f"{prompt}\n" for prompt in prompts))
    return PromptTable(str(path), str(path), "prompt")


def test_prompts_are_numbered_once_before_they_are_shared(tmp_path: Path) -> None:
    prompts = table(tmp_path, ["a", "b", "a", "", "c", "  ", "d", "b", "e", "f", "g"])
    unique = prompts.count()
    assert (len(unique), unique.rows, unique.empty, unique.repeated) == (7, 11, 2, 2)
    assert [unique.number(text) for text in ("a", "b", "", "g")] == [0, 1, None, 6]
    nothing = np.zeros(7, bool)
    alone = list(shares(prompts, nothing, 2, 0, 1))
    assert alone == [[(0, "a"), (1, "b")], [(2, "c"), (3, "d")], [(4, "e"), (5, "f")], [(6, "g")]]
    assert [*shares(prompts, nothing, 2, 0, 2), *shares(prompts, nothing, 2, 1, 2)] == [alone[0], alone[2], alone[1], alone[3]]
    assert list(shares(prompts, np.array([1, 0, 1, 1, 0, 0, 1], bool), 2, 0, 1)) == [[(1, "b")], [(4, "e"), (5, "f")]]
    assert list(shares(prompts, np.ones(7, bool), 2, 0, 1)) == []


def test_tables_without_a_prompt(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="holds no prompt"):
        table(tmp_path, []).count()
    with pytest.raises(BadInputError, match="all 2 prompts in column 'prompt' are empty"):
        table(tmp_path, ["", " "]).count()
    assert not UniquePrompts()
    (tmp_path / "x.csv").write_text("id,text\n1,a\n")
    with prompt_table(str(tmp_path / "x.csv"), "prompt") as other, pytest.raises(BadInputError, match="Choose one with --prompt-column"):
        other.count()
