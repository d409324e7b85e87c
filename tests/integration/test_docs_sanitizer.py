"""The examples of ``docs/sanitizer.md`` run and give what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cxrguard.cli import app
from cxrguard.sanitizer.conventions import known_conventions, load_convention
from cxrguard.sanitizer.pipeline import sanitize_text
from cxrguard.sanitizer.settings import ACTIONS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "sanitizer.md").read_text(encoding="utf-8")
# What stands in a block that is marked as a file or as a command.
BLOCKS = re.findall(r"<!-- (file: \S+|run) -->\n```\w*\n(.*?)```", PAGE, re.DOTALL)
FILES = {name.removeprefix("file: "): text for name, text in BLOCKS if name != "run"}
COMMANDS = [shlex.split(text) for name, text in BLOCKS if name == "run"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        if name not in [command[3] for command in COMMANDS]:
            (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_writes_what_the_page_says(folder: Path, command: list[str]) -> None:
    done = CliRunner().invoke(app, command[1:])
    assert done.exit_code == 0
    assert (folder / command[3]).read_text(encoding="utf-8") == FILES[command[3]]


def test_there_are_commands() -> None:
    assert [command[:2] for command in COMMANDS] == [["cxrguard", "sanitize"]] * 2


def test_the_convention_of_ones_own_holds_its_examples(folder: Path) -> None:
    convention = load_convention("tilde.yaml")
    assert len(convention.examples) >= 3
    for before, after in convention.examples:
        assert sanitize_text(before, [convention]).text == after


def rows(heading: str) -> list[list[str]]:
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    return cells[2:]


def test_before_and_after() -> None:
    found = rows("How it works")
    conventions = [load_convention(name) for name in known_conventions() if name != "surrogates"]
    for before, after in found:
        expected = "" if after.startswith("(nothing") else after
        assert sanitize_text(before.replace("\\_", "_"), conventions).text == expected


def test_the_tables_name_all_there_is() -> None:
    assert {row[0].strip("`") for row in rows("Conventions")} == {*known_conventions(), "auto"}
    assert sorted(row[0].strip("`") for row in rows("Actions")) == sorted(ACTIONS)
    config = yaml.safe_load((ROOT / "conf" / "sanitizer" / "mimic_cxr.yaml").read_text(encoding="utf-8"))
    assert {row[0].strip("`") for row in rows("Settings")} == config.keys() - {"_target_"}
    assert [row[0].strip("`") for row in rows("Statuses")] == ["unchanged", "edited", "emptied", "refused"]


@pytest.mark.parametrize("action", ["repair", "drop_sentence", "strip"])
def test_what_an_action_does(action: str) -> None:
    said = next(row[1] for row in rows("Actions") if row[0] == f"`{action}`")
    after = sanitize_text("The effusion is unchanged since ___.", [load_convention("mimic_cxr")], action).text
    assert (after or "(nothing)") == said


def test_the_readme_links_the_page() -> None:
    assert "(docs/sanitizer.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
