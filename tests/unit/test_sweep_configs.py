"""What is swept exists: each list parses as Hydra parses it, and each job's configuration composes."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

CONF = Path(__file__).parents[2] / "conf"


def jobs(overrides: list[str]) -> list[list[str]]:
    """The jobs of a sweep over ``overrides``, those of the group first as Hydra has it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        params = compose("config", ["hparams_search=sanitization"], return_hydra_config=True).hydra.sweeper.params
    parsed = OverridesParser.create().parse_overrides([*(f"{key}={value}" for key, value in params.items()), *overrides])
    return BasicSweeper.split_arguments(parsed, None)[0]


def test_every_combination_is_a_job_and_composes() -> None:
    found = jobs([])
    assert len(found) == 32 == len({tuple(job) for job in found})
    with initialize_config_dir(str(CONF), version_base="1.3"):
        configs = [compose("config", ["hparams_search=sanitization", *job]) for job in found]
    chosen = {(c.guard.name, c.sanitizer.action, tuple(c.sanitizer.conventions), c.sanitizer.cues) for c in configs}
    assert len(chosen) == 32, "two jobs are the same"
    assert {c.canaries.n_steering for c in configs} == {64}


def test_the_command_line_replaces_a_list() -> None:
    found = jobs(["sanitizer.action=repair", "guard=monitor", "sanitizer.cues=off", "seed=1,2"])
    assert len(found) == 4 and all("sanitizer.action=repair" in job for job in found)


def test_the_wandb_sweep_is_the_same() -> None:
    sweep = yaml.safe_load((CONF / "wandb_sweep.yaml").read_text())
    values = {name: entry["values"] for name, entry in sweep["parameters"].items()}
    arms = {tuple(f"{name}={value}" for name, value in zip(values, arm, strict=True)) for arm in itertools.product(*values.values())}
    assert arms == {tuple(job) for job in jobs([])}
    fixed = [item for item in sweep["command"] if not item.startswith(("${", "hydra."))]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [*fixed, *min(arms)])
    assert config.logger.wandb.offline is False and config.canaries.n_steering == 64


def test_the_commands_of_the_documentation_compose() -> None:
    blocks = re.findall(r"```(?:bash)?\n(.*?)```", (CONF.parent / "docs" / "sweeps.md").read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if "train.py" in line]
    assert len(lines) == 5
    for line in lines:
        words = shlex.split(line)
        overrides = [item for item in words[words.index("train.py") + 1 :] if item != "-m" and "hydra" not in item]
        parsed = OverridesParser.create().parse_overrides(overrides)
        fixed = [item.input_line for item in parsed if not item.is_sweep_override()]
        keys = [item.key_or_group for item in parsed if item.is_sweep_override()]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            compose("config", [*fixed, *(f"{key}=null" for key in keys if key)])
