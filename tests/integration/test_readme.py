"""The README's promises: its make targets exist, its commands compose, its example prints what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def train_commands() -> list[list[str]]:
    joined = README.replace("\\\n", " ")
    found = re.findall(r"python train\.py ([^`\n]+)", joined)
    return [[a for a in shlex.split(c) if a not in ("-m", "[overrides]")] for c in found]


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)) | {
        t for t in re.findall(r"`make ([a-z -]+?)[`A-Z]", README) for t in t.split()
    }
    assert named
    assert named <= targets


@pytest.mark.parametrize("overrides", [c for c in train_commands() if not any(a.startswith("--") for a in c)], ids=str)
def test_every_train_command_composes(overrides: list[str]) -> None:
    single = [o.split(",")[0] if not o.startswith("data.root") else o for o in overrides]
    single = [o.replace("=...", "=/data") for o in single]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert compose("config", single).data


@pytest.mark.parametrize("name", [p.stem for p in sorted((ROOT / "conf" / "experiment").glob("*.yaml"))])
def test_every_experiment_composes(name: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", [f"experiment={name}"])
    repeats = config.canaries.repeats
    assert isinstance(repeats, int) or len(repeats) == config.canaries.n


def test_the_sanitizer_example_prints_what_it_says() -> None:
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code
    *setup, last = code.group(1).strip().splitlines()
    expression, said = last.split("#")
    namespace: dict[str, object] = {}
    exec("\n".join(setup), namespace)
    assert repr(eval(expression, namespace)) == said.strip()


def test_the_shipped_model_is_small_and_has_no_pickle() -> None:
    files = [p for p in (ROOT / "cxrguard" / "models" / "tiny").rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 16 * 2**20
    assert {p.suffix for p in files} == {".json", ".safetensors"}


def test_no_placeholder_is_left() -> None:
    assert "@" not in re.sub(r"`[^`]*`", "", README)
