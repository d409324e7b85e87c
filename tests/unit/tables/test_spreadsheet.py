"""Cells that a spreadsheet would run as formulas."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cxrguard.cli import app
from cxrguard.tables.spreadsheet import as_written, escaped_formulas, may_be_formula


@pytest.mark.parametrize("cell", ['=HYPERLINK("http://x")', "+1+cmd|' /C calc'!A0", "- No effusion.", "@SUM(A1)", "\t=1", "\r=1"])
def test_formulas_are_known(cell):
    assert may_be_formula(cell)


@pytest.mark.parametrize("cell", ["", "No effusion.", "-3", "+1.5", "-1e-3", "5-3", "'=1"])
def test_text_and_numbers_are_none(cell):
    assert not may_be_formula(cell)


@given(st.text())
def test_escaped_cells_are_no_formulas_and_hold_the_text(cell):
    assert as_written(cell) == cell, "off unless asked for"
    with escaped_formulas():
        written = as_written(cell)
        assert not may_be_formula(written) and written in (cell, f"'{cell}") and as_written(written) == written


@pytest.mark.parametrize("escape", [True, False])
def test_the_command_escapes_when_asked(tmp_path, escape):
    rows = [("=1+1", "- No effusion. Compared to ___, stable."), ("-3", "Clear lungs.")]
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *rows])
    flags = ["--escape-formulas"] if escape else []
    result = CliRunner().invoke(app, [*flags, "sanitize", str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), "--quiet"])
    assert result.exit_code == 0, result.output
    with (tmp_path / "out.csv").open(newline="") as file:
        out = list(csv.DictReader(file))
    mark = "'" if escape else ""
    assert [row["id"] for row in out] == [f"{mark}=1+1", "-3"]
    assert out[0]["text"] == mark + rows[0][1] and out[0]["sanitized"].startswith(f"{mark}- No effusion.")
