"""``docs/mimic_cxr.md`` and the Slurm script of ``docs/sweeps.md``: what they say on the command line composes."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "mimic_cxr.md").read_text(encoding="utf-8")
SWEEPS = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
(SCRIPT,) = re.findall(r"<!-- file: run.sbatch -->\n```bash\n(.*?)```", SWEEPS, re.DOTALL)
LINES = [line for block in PAGE.split("```\n")[1::2] for line in block.splitlines()]
COMMANDS = [shlex.split(line) for line in [*LINES, next(x for x in SCRIPT.replace("\\\n", " ").splitlines() if "train.py" in x)[5:]]]


@pytest.mark.parametrize("command", COMMANDS, ids=["look", "run", "slurm"])
def test_every_command_composes(command):
    assert command[:2] == [".venv/bin/python", "train.py"]
    given = [item for item in command[2:] if not item.startswith("hydra.")]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", given)
    assert config.data.reader._target_ == "cxrguard.data.mimic_cxr_jpg.MimicCxrJpgReader"
    assert config.data.root == "/data/mimic-cxr-jpg" and config.data.reports == "/data/mimic-cxr-reports.zip"


def test_the_script_is_bash_and_queues_again_what_was_told_to_stop(tmp_path):
    (tmp_path / "run.sbatch").write_text(SCRIPT)
    subprocess.run(["bash", "-n", tmp_path / "run.sbatch"], check=True)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, does in (("srun", "exit 143"), ("scontrol", f'echo "$@" > {tmp_path}/asked')):
        (tools / name).write_text(f"#!/bin/bash\n{does}\n")
        (tools / name).chmod(0o755)
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "SLURM_JOB_ID": "17", "SLURM_CPUS_PER_TASK": "8", "HOME": str(tmp_path)}
    done = subprocess.run(["bash", tmp_path / "run.sbatch"], env=environment, check=False)
    assert done.returncode == 143 and (tmp_path / "asked").read_text() == "requeue 17\n"
