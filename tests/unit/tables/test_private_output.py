"""Whole or not at all, and for the owner only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cxrguard.tables import PrivateOutput


def test_nothing_is_seen_before_the_commit(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out.csv"
    old = os.umask(0)
    try:
        with PrivateOutput(str(path)) as output:
            output.file.write(b"x")
            assert not path.exists()
            assert [f.stat().st_mode & 0o777 for f in path.parent.iterdir()] == [0o600]
            output.finish()
            output.commit()
    finally:
        os.umask(old)
    assert path.read_bytes() == b"x"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    with pytest.raises(error), PrivateOutput(str(path)) as output:
        output.file.write(b"new")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_gzip_has_no_time_in_it(tmp_path: Path) -> None:
    contents = []
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        with PrivateOutput(str(tmp_path / name)) as output:
            output.file.write(b"x" * 1000)
            output.finish()
            output.commit()
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    assert contents[0][:2] == b"\x1f\x8b"
