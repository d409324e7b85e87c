"""The quarantine list and the limit on bad samples."""

from __future__ import annotations

import csv
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrguard.data.quarantine import check_fraction, write_quarantine
from cxrguard.data.records import Quarantined
from cxrguard.errors import BadInputError, CxrguardError

ROWS = [Quarantined(7, "the age is odd"), Quarantined(2, "is truncated, or damaged"), Quarantined(9, "the age is odd")]


def test_file_holds_rows_in_order_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "run" / "quarantine.csv"
    path.parent.mkdir()
    path.write_text("old and long " * 99)
    path.chmod(0o644)
    write_quarantine(path, ROWS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["row", "reason"],
            ["2", "is truncated, or damaged"],
            ["7", "the age is odd"],
            ["9", "the age is odd"],
        ]


def test_a_new_file_in_a_new_directory_is_private(tmp_path: Path) -> None:
    write_quarantine(tmp_path / "a" / "q.csv", [])
    assert stat.S_IMODE((tmp_path / "a" / "q.csv").stat().st_mode) == 0o600


def test_message_says_counts_reasons_file_and_remedy() -> None:
    with pytest.raises(BadInputError) as caught:
        check_fraction(3, 100, 0.01, ROWS, Path("/out/quarantine.csv"))
    message = str(caught.value)
    for part in ("3 of 100", "3.0%", "1.0%", "the age is odd (2)", "(1)", "/out/quarantine.csv", "data.max_bad_fraction"):
        assert part in message
    assert message.index("the age is odd") < message.index("is truncated")


def test_no_usable_sample_is_an_error_at_any_limit() -> None:
    with pytest.raises(BadInputError, match="3 of 3"):
        check_fraction(3, 3, 1.0)
    with pytest.raises(BadInputError, match="no samples"):
        check_fraction(0, 0, 1.0)


@pytest.mark.parametrize("limit", [-0.1, 1.1, float("nan")])
def test_limit_must_be_a_fraction(limit: float) -> None:
    with pytest.raises(CxrguardError, match="max_bad_fraction"):
        check_fraction(0, 3, limit)


@given(st.integers(1, 10_000), st.data())
def test_the_limit_itself_is_accepted(total: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, total - 1))
    check_fraction(bad, total, min(1.0, (bad + 0.5) / total))
    if bad:
        with pytest.raises(BadInputError):
            check_fraction(bad, total, (bad - 0.5) / total)
