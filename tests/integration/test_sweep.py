"""Sweeps: arms in order, a failed one included, each job a W&B run of its own."""

from __future__ import annotations

import csv
import json

import pytest
from leaks import leaks, protected
from wandb_records import records

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
        job = run.dir / directory.parent.parent.name
        strips = json.loads((job / "audit.json").read_text())["strips"]
        mine = {s["images"]["generated"] for s in strips if s["group"] == "canary" and not s["replayed"]}
        allowed = {path.read_bytes() for path in [*(job / "samples").glob("step_*.png"), *(job / name for name in mine)]}
        assert pictures and {path.read_bytes() for path in pictures} <= allowed
        assert [path for path in directory.rglob("*") if path.suffix in (".jpg", ".npy", ".html", ".patch", ".py")] == []


@pytest.mark.runs("arms")
def test_wandb_has_the_audit_and_says_that_it_refuses(runs):
    """Read back from the offline run's own records."""
    run = runs["arms"]
    for job in range(4):
        (directory,) = (run.dir / str(job) / "wandb").glob("offline-run-*")
        found = records(directory)
        kinds = {record.WhichOneof("record_type") for record in found}
        assert {"run", "history", "alert", "artifact"} <= kinds
        (started,) = [record.run for record in found if record.WhichOneof("record_type") == "run"][:1]
        assert started.run_group == run.dir.name
        assert {"seed", "canaries", "guard"} <= {item.key for item in started.config.update}
        history = [item for r in found if r.WhichOneof("record_type") == "history" for item in r.history.item]
        logged = {item.key or item.nested_key[0] for item in history}
        assert {"canaries", "guard/actions", "words", "heldout/loss", "final/extraction_rate"} <= logged
        rounds = {"memorization/extraction_rate/repeats_4", "exposure/text_noise_norm/repeats_4", "probes/seconds", "probes/share_of_time"}
        with (run.dir / str(job) / "metrics.csv").open(newline="") as file:
            on_disk = set(next(csv.reader(file)))
        assert rounds | {"final/sanitizer/edited", "final/extraction_rate/repeats_4"} <= logged & on_disk
        (alert,) = [record.alert for record in found if record.WhichOneof("record_type") == "alert"]
        reasons = json.loads((run.dir / str(job) / "audit.json").read_text())["verdict"]["reasons"]
        assert alert.text == "\n".join(reasons)
        assert not list(directory.rglob("report.html")) and not list(directory.rglob("*.safetensors"))


@pytest.mark.runs("arms")
def test_wandb_gets_nothing_protected(runs):
    settings = CanarySettings(n=4, repeats=4, n_controls=12, n_members=6)
    secrets = protected(PhantomReader(n_patients=260).read()[0], settings, 0.5, seed=1)
    assert leaks(runs["arms"].dir, secrets, runs["arms"].output) == []
