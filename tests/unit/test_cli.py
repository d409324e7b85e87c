"""The command's exit statuses: 0 done, 1 failed, 2 wrong use, 3 refused."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cxrguard.cli import app

FAKE = runpy.run_path(str(Path(__file__).parent / "audit" / "fake_audit.py"))
runner = CliRunner()


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A finished run of a model that replays."""
    run: Path = FAKE["write_run"](tmp_path / "sweep" / "0", FAKE["fake_audit"]())
    return run


def test_report_of_a_run_and_of_a_sweep(run_dir: Path) -> None:
    for directory in (run_dir, run_dir.parent):
        result = runner.invoke(app, ["report", str(directory)])
        assert result.exit_code == 0
        assert result.stdout.strip() == str(directory / "report.html")
    assert (run_dir.parent / "study.json").is_file()


def test_gate_refuses_with_three(run_dir: Path) -> None:
    result = runner.invoke(app, ["gate", str(run_dir / "audit.json")])
    assert result.exit_code == 3
    assert result.stdout.startswith("REFUSED\n- 24 of 32 canaries")


def test_gate_passes_with_zero(run_dir: Path) -> None:
    audit = json.loads((run_dir / "audit.json").read_text())
    del audit["extraction"]
    audit["canaries"].update(extraction_rate=0.0, extraction_ci=[0.0, 0.1072])
    audit["controls"]["spillover_rate"] = 0.0
    audit["members"]["extraction_rate"] = 0.0
    audit["verdict"] = {"pass": True, "reasons": []}
    (run_dir / "audit.json").write_text(json.dumps(audit))
    result = runner.invoke(app, ["gate", str(run_dir / "audit.json")])
    assert result.exit_code == 0, result.output
    assert "up to 10.7 %" in result.stdout


@pytest.mark.parametrize("arguments", [["gate", "absent.json"], ["gate", "."], ["gate"], ["report", "absent"], ["nonsense"]])
def test_wrong_use_is_two(arguments: list[str]) -> None:
    assert runner.invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize("content", ["{", "{}", "[]", '"x"'])
def test_a_malformed_audit_is_one_without_traceback(tmp_path: Path, content: str) -> None:
    (tmp_path / "audit.json").write_text(content)
    result = runner.invoke(app, ["gate", str(tmp_path / "audit.json")])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.output


def test_report_of_an_empty_directory_is_one(tmp_path: Path) -> None:
    result = runner.invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 1
    assert "No run under" in result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["report", "--help"], ["gate", "--help"]])
def test_help_has_examples(arguments: list[str]) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0
    assert "Examples:\n" in result.stdout
    assert "cxrguard" in result.stdout
