"""Sweeps whose jobs run beside each other; the basic launcher's are in ``test_sweep.py``."""

from __future__ import annotations

import json
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest

from cxrguard.audit.record import validate_audit

HERE = {"PYTHONPATH": str(Path(__file__).parent)}
ONE_LIST = ["hparams_search=sanitization", "guard=monitor", "sanitizer.conventions=[mimic_cxr]", "sanitizer.cues=off"]
UNKNOWN_SIGNAL = 77


def needs(launcher: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(f"hydra_plugins.{launcher}") is None, reason=f"{launcher} is not installed")


@pytest.fixture
def sweep(start, tmp_path: Path, pipeline_dir: Path, straight: list[str]):
    """Sweep over the run that others call ``straight``, cut short; returns (exit status, output, study)."""

    def go(*overrides: str) -> tuple[int, str, dict]:
        out = tmp_path / "out"
        short = ["probes.every_n_steps=0", "trainer.max_steps=2", "canaries.n_steering=4", f"model.source={pipeline_dir}"]
        process = start(tmp_path / "work", "-m", *straight, *short, f"hydra.sweep.dir={out}", *overrides, environment=HERE)
        output = process.communicate(timeout=280)[0]
        assert (out / "study.json").is_file(), output
        assert (out / "report.html").stat().st_size > 10_000
        return process.returncode, output, json.loads((out / "study.json").read_text())

    return go


def check_arms(study: dict) -> None:
    """Off, then an action that there is not, then repair."""
    off, wrong, repair = study["arms"]
    assert [arm["status"] for arm in study["arms"]] == ["done", "failed", "done"]
    assert [arm["dir"] for arm in study["arms"]] == ["0", "1", "2"]
    assert "sanitizer.action=nonsense" in wrong["overrides"] and "Unknown sanitizer action" in wrong["error"] and wrong["audit"] is None
    for arm in (off, repair):
        validate_audit(arm["audit"])
    assert off["audit"]["sanitizer"]["residual_markers"] > 0 == repair["audit"]["sanitizer"]["residual_markers"]


@needs("hydra_joblib_launcher")
def test_two_joblib_jobs_at_a_time_and_a_failed_one(sweep):
    action = "sanitizer.action=off,nonsense,repair"
    status, output, study = sweep(*ONE_LIST, action, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert status == 0 and "Traceback" not in output, output
    assert "job 0: step 1/2" in output and "job 2: step 2/2" in output, "which job says so"
    check_arms(study)


@pytest.mark.skipif(find_spec("ray") is None or find_spec("hydra_plugins.hydra_ray_launcher") is None, reason="Ray is not installed")
def test_ray_jobs_and_a_failed_one(sweep):
    action = "sanitizer.action=off,nonsense,repair"
    status, output, study = sweep(*ONE_LIST, action, "hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2")
    assert status == 0, output
    check_arms(study)


@needs("hydra_submitit_launcher")
def test_submitit_jobs_that_fail_are_queued_again_or_are_killed(sweep, tmp_path):
    """The last one is killed, at which Hydra's launcher raises: the study is written all the same."""
    numbers = f"+callbacks.told.number={UNKNOWN_SIGNAL},{signal.SIGUSR2:d},{signal.SIGKILL:d}"
    launcher = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"]
    status, _, study = sweep(*launcher, "+callbacks.told._target_=signal_itself.SignalItself", numbers, "ckpt_path=last")
    failed, again, killed = study["arms"]
    assert failed["status"] == "failed" and "OSError" in failed["error"]
    assert again["status"] == "done" and again["audit"]["steps"] == 2, again
    assert killed["status"] == "running" and killed["audit"] is None and status != 0
    logs = "".join(path.read_text() for path in (tmp_path / "out" / ".submitit").rglob("*_log.*"))
    assert "step 1/2" in logs and logs.count("this run directory has no checkpoint") == 3, "the one that was queued again went on"


@pytest.mark.skipif(find_spec("hydra_plugins.hydra_optuna_sweeper") is None, reason="hydra-optuna-sweeper is not installed")
def test_a_failed_trial_does_not_end_an_optuna_sweep(sweep, tmp_path):
    trials = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1", "hydra.sweeper.sampler.seed=1"]
    status, output, study = sweep(*trials, "sanitizer.action=choice(nonsense,repair)", "optimized_metric=fidelity.heldout_loss")
    assert status == 0, output
    assert {arm["status"] for arm in study["arms"]} == {"done", "failed"}
    assert "sanitizer.action: repair" in (tmp_path / "out" / "optimization_results.yaml").read_text()
