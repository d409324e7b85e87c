"""The help of every command: what it does, examples that parse, exit statuses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cxrguard.cli import EXIT_STATUSES, app

COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


def help_of(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--help"])
    assert result.exit_code == 0, result.output
    return result.stdout


def examples(text: str) -> list[list[str]]:
    """The calls of the command in the examples of a help text, each without the command's own name."""
    block = text.split("Examples:\n")[1].split("\n\n")[0]
    parts = [shlex.split(part) for line in block.splitlines() for part in re.split(r"\||&&|>", line)]
    calls = [part[1:] for part in parts if part[0] == "cxrguard"]
    return [call[1:] if call[0] == "--escape-formulas" else call for call in calls]


@pytest.mark.parametrize("name", [[], *([name] for name in COMMANDS)], ids=lambda name: name[0] if name else "cxrguard")
def test_examples_parse(name: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    calls = examples(help_of(*name))
    assert [call for call in calls if not name or call[0] == name[0]]
    for command, *arguments in calls:
        if command == "report":  # what these two are given must be there
            Path(arguments[0]).mkdir(parents=True, exist_ok=True)
        if command == "gate":
            Path(arguments[0]).parent.mkdir(parents=True, exist_ok=True)
            Path(arguments[0]).touch()
        COMMANDS[command].make_context(command, arguments)


def test_an_example_that_does_not_parse_would_be_seen() -> None:
    with pytest.raises(Exception, match="--nonsense"):
        COMMANDS["score"].make_context("score", ["--nonsense"])


@pytest.mark.parametrize("name", [[], *([name] for name in COMMANDS)], ids=lambda name: name[0] if name else "cxrguard")
def test_help_says_the_exit_statuses(name: list[str]) -> None:
    assert EXIT_STATUSES in " ".join(help_of(*name).split())
