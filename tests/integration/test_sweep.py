"""Sweeps: arms in order, a failed one included, each job a W&B run of its own."""

from __future__ import annotations

import json

import pytest
from leaks import leaks, protected

from cxrguard.audit.record import validate_audit
from cxrguard.data.phantom import PhantomReader
from cxrguard.data.prepare import CanarySettings


@pytest.mark.runs("arms")
def test_arms_are_listed_in_order(runs):
    run = runs["arms"]
    assert run.status == 0, run.output
    arms = json.loads((run.dir / "study.json").read_text())["arms"]
    chosen = [tuple(o for o in arm["overrides"] if o.startswith(("sanitizer=", "seed="))) for arm in arms]
    assert chosen == [(f"sanitizer={s}", f"seed={n}") for s in ("off", "mimic_cxr") for n in (1, 2)]
    assert [arm["dir"] for arm in arms] == ["0", "1", "2", "3"]
    assert [(arm["status"], arm["seed"]) for arm in arms] == [("done", n) for n in (1, 2, 1, 2)]
    for arm in arms:
        validate_audit(arm["audit"])
        assert (run.dir / arm["dir"] / "report.html").is_file()
    left = [arm["audit"]["sanitizer"]["residual_markers"] for arm in arms]
    assert left[0] > 0 and left[1] > 0 and left[2:] == [0, 0]


@pytest.mark.runs("arms")
def test_page_compares_the_arms(runs):
    page = runs["arms"].dir / "report.html"
    text = page.read_text()
    assert page.stat().st_mode & 0o077 == 0
    assert all(f'href="{job}/report.html"' in text for job in range(4))
    assert "sanitizer=mimic_cxr" in text and "sanitizer=off" in text


@pytest.mark.runs("failing")
def test_failed_job_does_not_end_the_sweep(runs):
    run = runs["failing"]
    assert run.status == 0, run.output
    failed, done = json.loads((run.dir / "study.json").read_text())["arms"]
    assert (failed["status"], done["status"]) == ("failed", "done")
    assert failed["audit"] is None and "canaries" in failed["error"] and "9999" in failed["error"]
    assert json.loads((run.dir / "0" / "status.json").read_text())["error"] == failed["error"]
    assert run.output.count(failed["error"]) == 1 and "Traceback" not in run.output
    assert "9999" in (run.dir / "report.html").read_text()


def test_enforced_gate_is_refused_in_a_sweep(train, pipeline_dir, tmp_path):
    result = train("-m", "gate.enforce=true", "seed=1,2", f"hydra.sweep.dir={tmp_path / 'out'}")
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("error:") == 1 and "cxrguard gate" in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("status.json"))


@pytest.mark.runs("arms")
def test_each_job_is_an_offline_wandb_run_of_its_own(runs):
    """Generated images only, and neither key nor network."""
    run = runs["arms"]
    found = [sorted((run.dir / str(job) / "wandb").glob("offline-run-*")) for job in range(4)]
    assert [len(jobs) for jobs in found] == [1, 1, 1, 1]
    assert len({jobs[0].name for jobs in found}) == 4
    for (directory,) in found:
        assert list(directory.glob("*.wandb"))
        pictures = sorted(directory.rglob("*.png"))
        samples = {path.read_bytes() for path in (run.dir / directory.parent.parent.name / "samples").glob("step_*.png")}
        assert len(pictures) == len(samples) == 2
        assert [path for path in directory.rglob("*") if path.suffix in (".jpg", ".npy", ".html", ".patch", ".py")] == []


@pytest.mark.runs("arms")
def test_wandb_gets_nothing_protected(runs):
    settings = CanarySettings(n=4, repeats=4, n_controls=12, n_members=6)
    secrets = protected(PhantomReader(n_patients=260).read()[0], settings, 0.5, seed=1)
    assert leaks(runs["arms"].dir, secrets, runs["arms"].output) == []
