"""Killed, told to stop, spread over processes: a run ends with the weights of the undisturbed one, or says why not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch


@pytest.fixture
def begin(start, pipeline_dir, straight):
    """Start the run that others call ``straight``, with other settings, into ``directory/out``."""

    def go(directory: Path, *overrides: str, **settings: object) -> subprocess.Popen[str]:
        own = [*straight, f"model.source={pipeline_dir}", f"hydra.run.dir={directory / 'out'}"]
        return start(directory, *own, *overrides, **settings)

    return go


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, f"{path.name} did not come"
        time.sleep(0.02)


def status(run: Path) -> str:
    return str(json.loads((run / "status.json").read_text())["status"])


@pytest.mark.runs("straight")
def test_killed_at_a_random_moment_and_resumed(runs, tmp_path, begin):
    moment = random.Random(os.getpid()).uniform(0, 3)  # after the first checkpoint; printed where the test fails
    work = tmp_path / "killed"
    process = begin(work, "checkpoint.every_n_steps=1", "probes.every_n_steps=0")
    wait_for(work / "out" / "checkpoints" / "last.ckpt", process)
    time.sleep(moment)
    process.kill()
    process.communicate()
    steps = torch.load(work / "out" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    resumed = begin(work, "checkpoint.every_n_steps=1", "probes.every_n_steps=0", "ckpt_path=last")
    output = resumed.communicate(timeout=280)[0]
    assert resumed.returncode == 0, output
    assert same(weights(work / "out"), weights(runs["straight"].dir)), f"killed {moment:.2f} s after step {steps}"
    assert not list((work / "out").glob(".checkpoint-*"))


def test_sigterm_saves_and_says_so(tmp_path, begin):
    work = tmp_path / "stopped"
    process = begin(work, "checkpoint.every_n_steps=1", "probes.every_n_steps=0", "trainer.max_steps=400")
    wait_for(work / "out" / "checkpoints" / "step=000002.ckpt", process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 143, output
    assert "stopped by SIGTERM after step" in output and "ckpt_path=last" in output and "Traceback" not in output
    assert status(work / "out") == "stopped"
    assert (work / "out" / "cache").is_dir(), "what is encoded is there for the run that goes on"
    step = torch.load(work / "out" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert f"after step {step};" in output and step >= 2


def test_sigterm_before_training_ends_with_a_status(tmp_path, begin):
    work = tmp_path / "early"
    process = begin(work)
    wait_for(work / "out" / "status.json", process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 143, output
    assert status(work / "out") == "stopped" and "Traceback" not in output


@pytest.mark.runs("straight")
def test_two_processes_are_one(runs, tmp_path, begin):
    work = tmp_path / "two"
    two = begin(work, "data.batch_size=32", "trainer.devices=2", "trainer.strategy=ddp")
    output = two.communicate(timeout=280)[0]
    assert two.returncode == 0, output
    one = runs["straight"].dir
    a, b = weights(one), weights(work / "out")
    assert a.keys() == b.keys()
    # Of the whole: where a gradient is near 0, Adam makes the rounding of another order of summation as large as a step.
    difference, norm = (torch.cat([x.flatten() for x in xs]).norm() for xs in ([a[n] - b[n] for n in a], a.values()))
    assert float(difference / norm) < 1e-5
    audits = [json.loads((run / "audit.json").read_text()) for run in (one, work / "out")]
    for audit in audits:
        for key in ("seconds", "run", "config_hash"):
            audit.pop(key)
        for row in audit["curves"]:
            row.pop("step")
    assert figures(audits[1]) == pytest.approx(figures(audits[0]), rel=2e-3, abs=2e-3)


def figures(value: object) -> list[float]:
    """All numbers of an audit, in order."""
    if isinstance(value, dict):
        return [x for name in sorted(value) for x in figures(value[name])]
    if isinstance(value, list):
        return [x for item in value for x in figures(item)]
    return [float(value)] if isinstance(value, (int, float)) else []


@pytest.mark.parametrize("rank", [0, 1])
def test_a_bad_batch_of_one_process_ends_all(tmp_path, begin, rank):
    bad = f"+callbacks.bad={{_target_: failing_rank.FailingRank, rank: {rank}}}"
    path = {"PYTHONPATH": str(Path(__file__).parent)}
    two = begin(tmp_path / "bad", "data.batch_size=32", "trainer.devices=2", "trainer.strategy=ddp", bad, environment=path)
    output = two.communicate(timeout=240)[0]
    assert two.returncode != 0
    assert "a marker reached this batch" in output
    assert status(tmp_path / "bad" / "out") in ("failed", "stopped")


def test_a_sweep_over_several_devices_is_refused(train):
    result = train("-m", "seed=0,1", "trainer.devices=2")
    assert result.returncode == 2 and "with several devices start each job by itself" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed"])
def test_strategies_that_cannot_be_judged_are_refused_in_one_line(train, tmp_path, strategy):
    result = train("trainer.devices=2", f"trainer.strategy={strategy}", f"hydra.run.dir={tmp_path / 'out'}")
    assert result.returncode == 1 and "use trainer.strategy=ddp" in result.stderr
    assert result.stderr.count("error:") == 1 and "Traceback" not in result.stderr
    assert status(tmp_path / "out") == "failed"
