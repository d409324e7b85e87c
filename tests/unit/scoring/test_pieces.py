from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cxrguard.scoring.attribution import Attribution, Piece
from cxrguard.scoring.pieces import PieceDirectory


def made(number: int) -> Attribution:
    sections = tuple(Piece("section", i, 0, 0, None if i == 3 else 0.5, -1.0, None) for i in range(4))
    token, cut = Piece("token", 1, 0, 4, 0.1, 1 / 3, None), Piece("word", 1, 5, 9, None, None, 0.0)
    return Attribution((token, Piece("word", 0, 0, 4, 0.1, float(number), -0.25), cut), number % 2 == 1, sections)


def test_attributions_come_back_as_they_were(tmp_path: Path) -> None:
    work = PieceDirectory(tmp_path / "o.partial", "abc", kept=1)
    with work.open(resume=True) as start:
        assert start == "new"
        work.add(0, [((0, 3), [made(0), made(3)]), ((1,), [made(1)])])
        work.add(1, [((2,), [made(2)])])
    with PieceDirectory(tmp_path / "o.partial", "abc").open(resume=True) as start:
        assert start == "resumed"
        assert work.done(6).tolist() == [True] * 4 + [False] * 2
        assert [work.attribution(number) for number in (2, 0, 2, 3, 1)] == [made(2), made(0), made(2), made(3), made(1)]
        with pytest.raises(KeyError):
            work.attribution(5)
    assert {stat.S_IMODE(path.stat().st_mode) for path in work.path.iterdir()} == {0o600}


def test_a_damaged_part_is_done_again_and_a_part_of_another_job_never_read(tmp_path: Path) -> None:
    work, other = (PieceDirectory(tmp_path / "o.partial", name) for name in ("abc", "xyz"))
    with work.open(resume=True):
        work.add(0, [((0,), [made(0)])])
        work.add(0, [((1,), [made(1)])])
        damaged = sorted(work.path.glob("*.parquet"))[0]
        damaged.write_bytes(damaged.read_bytes()[:60])
        assert work.done(2).tolist() == [False, True]
        assert not damaged.exists()
    with other.open(resume=True) as start:
        assert start == "other"
        assert not other.done(2).any()
