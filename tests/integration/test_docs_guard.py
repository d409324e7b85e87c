"""``docs/guard.md``: its overrides compose, its example is a mitigation, its tables name what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from cxrguard.guard.policy import ACTIONS
from cxrguard.mitigations.training.base import Seen
from cxrguard.mitigations.training.combined import Combined

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "guard.md").read_text(encoding="utf-8")
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
LINES = [line for block in PAGE.replace(f"```python\n{CODE}```", "").split("```\n")[1::2] for line in block.splitlines()]
OVERRIDES = [shlex.split(line, comments=True)[0] for line in LINES if not line.startswith(".venv")]


def composed(*overrides: str):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", ["guard=enforce", *overrides])


@pytest.mark.parametrize("override", OVERRIDES)
def test_every_override_of_the_page_composes(override, monkeypatch, tmp_path):
    (tmp_path / "lowest_losses.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    guard = composed(override).guard
    rules = {name: instantiate(rule) for name, rule in guard.policy.items() if rule}
    combined = Combined([instantiate(m) for m in guard.mitigations.values() if m])
    assert rules and combined.parts


def test_the_example_is_a_mitigation():
    namespace: dict = {}
    exec(CODE, namespace)
    mitigation = Combined([namespace["LowestLosses"]()])
    seen = Seen(torch.arange(3), torch.tensor([10, 500, 900]), torch.tensor([0.1, 0.2, 0.3]))
    mitigation.calibrate(seen)
    weights = mitigation.weights(Seen(seen.sample_ids, seen.timesteps, torch.tensor([0.05, 0.15, 0.3])))
    assert weights.tolist() == [0.0, 1.0, 1.0]


def test_the_page_names_every_guard_mitigation_and_action():
    guards = [path.stem for path in (ROOT / "conf" / "guard").glob("*.yaml")]
    files = [p.stem for p in (ROOT / "cxrguard" / "mitigations" / "training").glob("loss_*.py")]
    assert [name for name in [*guards, *files, *ACTIONS] if f"`{name}`" not in PAGE] == []
