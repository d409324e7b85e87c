"""One run from the command line: what it leaves, who may read it, and what is not in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from leaks import leaks, protected
from PIL import Image

from cxrguard.audit.record import read_audit, validate_audit
from cxrguard.data.phantom import PhantomReader
from cxrguard.data.prepare import CanarySettings


@pytest.fixture(scope="session")
def secrets() -> set[bytes]:
    return protected(PhantomReader(n_patients=260).read()[0], CanarySettings(n=16, repeats=2, n_controls=12, n_members=6), 0.5)


@pytest.mark.runs("straight")
def test_leaves_everything_that_is_promised(runs):
    run = runs["straight"]
    assert run.status == 0, run.output
    assert json.loads((run.dir / "status.json").read_text()) == {"status": "done", "error": None, "seed": 0}
    for name in (
        "report.html",
        "MODEL_CARD.md",
        "scores.csv",
        "metrics.csv",
        "pipeline/model_index.json",
        "checkpoints/last.ckpt",
        "samples/step_000003.png",
    ):
        assert (run.dir / name).stat().st_size > 0, name
    assert "Traceback" not in run.output and "Warning" not in run.stderr


@pytest.mark.runs("straight")
def test_audit_validates_and_says_what_was_run(runs):
    audit = json.loads((runs["straight"].dir / "audit.json").read_text())
    validate_audit(audit)
    assert (audit["seed"], audit["steps"], audit["weights"]) == (0, 6, "raw")
    assert audit["canaries"]["n"] == 16 and audit["canaries"]["repeats"] == [2] * 16
    assert audit["sanitizer"]["edited"] == audit["sanitizer"]["prompts"] and audit["sanitizer"]["residual_markers"] == 0
    assert [row["step"] for row in audit["curves"]] == [0, 3, 6]
    scored = {"text_noise_norm", "text_noise_norm_mean", "seed_convergence", "denoising_loss"}
    assert set(audit["detectors"]) == scored | {"replication_tiled_l2", "replication_ratio", "combined"}
    combined = audit["detectors"]["combined"]
    assert combined["of"] == ["text_noise_norm", "seed_convergence"] and combined["evals_per_prompt"] == 18
    assert combined["by_repeats"][0]["exposure"] is not None  # the scores are there: 12 + 12 controls give a scale
    assert audit["words"]["reason"] is None and audit["words"]["prompts"] == 16 + 12 + 6 and audit["words"]["min_patients"] == 20
    assert {row["word"] for row in audit["words"]["top"] if row["marker"]} == {"___"}
    assert audit["marker_test"]["groups"]["canaries"]["n_prompts"] == 16
    assert audit["seconds"]["train"] > 0 and audit["seconds"]["total"] > audit["seconds"]["probes"] > 0


@pytest.mark.runs("averaged")
def test_a_copy_embedder_judges_and_a_round_keeps_to_its_budget(runs):
    audit = json.loads((runs["averaged"].dir / "audit.json").read_text())
    assert "replication_embedder" in audit["detectors"]
    least = {"canaries": 4, "controls": 8, "heldout": 64}  # of 12 controls
    assert [row["n"] for row in audit["curves"]] == [least] * 3
    assert audit["controls"]["n"] == 12


@pytest.mark.runs("straight")
def test_what_holds_text_images_or_scores_is_private(runs):
    run = runs["straight"].dir
    private = [run / "audit.json", run / "status.json", run / "report.html", run / "MODEL_CARD.md", run / "scores.csv"]
    private += [*(run / "samples").glob("*.png"), *(run / "evidence").glob("*.png")]
    assert len(private) > 10
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in private if path.stat().st_mode & 0o077} == {}
    assert (run / "evidence").stat().st_mode & 0o077 == 0


@pytest.mark.runs("straight", "averaged")
@pytest.mark.parametrize("name", ["straight", "averaged"])
def test_nothing_protected_is_written_or_printed(runs, secrets, name):
    run = runs[name]
    assert len(secrets) > 500
    assert leaks(run.dir, secrets, run.stdout, run.stderr) == []


@pytest.mark.runs("straight")
def test_pictures_carry_no_metadata(runs):
    for path in runs["straight"].dir.rglob("*.png"):
        with Image.open(path) as image:
            assert image.info == {}, path.name


@pytest.mark.runs("straight")
def test_pipeline_loads_in_plain_diffusers_and_holds_the_last_weights(runs):
    run = runs["straight"].dir
    pipe = StableDiffusionPipeline.from_pretrained(run / "pipeline", safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    image = pipe("No pneumothorax.", num_inference_steps=1, height=64, width=64, output_type="np").images
    assert image.shape == (1, 64, 64, 3)
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    exported = pipe.unet.state_dict()
    assert {name.removeprefix("unet.") for name in state} == set(exported), "the frozen parts are not in the checkpoint"
    assert all(torch.equal(state[f"unet.{name}"], value) for name, value in exported.items())


@pytest.mark.runs("averaged")
def test_averaged_weights_are_the_ones_exported(runs, pipeline_dir):
    from diffusers import UNet2DConditionModel

    run = runs["averaged"]
    assert read_audit(run.dir / "audit.json")["weights"] == "ema"
    checkpoint = torch.load(run.dir / "checkpoints" / "last.ckpt", weights_only=True)
    exported = list(UNet2DConditionModel.from_pretrained(run.dir / "pipeline" / "unet").parameters())
    start = list(UNet2DConditionModel.from_pretrained(pipeline_dir / "unet").parameters())
    assert all(torch.equal(a, b) for a, b in zip(exported, checkpoint["ema"]["shadow_params"], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(exported, checkpoint["state_dict"].values(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(exported, start, strict=True))


@pytest.mark.runs("averaged")
def test_without_a_sanitizer_the_markers_are_counted_and_refuse(runs):
    run = runs["averaged"]
    audit = read_audit(run.dir / "audit.json")
    assert run.status == 0, "a refusing verdict is no failure unless gate.enforce=true"
    assert audit["sanitizer"]["residual_markers"] > 0 and audit["verdict"]["pass"] is False
    assert any("markers were left" in reason for reason in audit["verdict"]["reasons"])


@pytest.mark.runs("enforced")
def test_enforced_gate_exits_3_after_a_whole_run(runs):
    run = runs["enforced"]
    assert run.status == 3, run.output
    assert json.loads((run.dir / "status.json").read_text())["status"] == "done"
    assert (run.dir / "pipeline" / "model_index.json").is_file()
    assert "Traceback" not in run.output


def cxrguard(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "cxrguard", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.runs("straight", "averaged")
def test_command_reports_and_judges_finished_runs(runs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(runs["straight"].dir, copy)
    before = (copy / "report.html").read_bytes()
    (copy / "report.html").unlink()
    result = cxrguard("report", copy, cwd=tmp_path)
    assert result.returncode == 0 and result.stdout.strip() == str(copy / "report.html")
    assert (copy / "report.html").read_bytes() == before

    for name in ("straight", "averaged"):
        audit = runs[name].dir / "audit.json"
        result = cxrguard("gate", audit, cwd=tmp_path)
        passes = read_audit(audit)["verdict"]["pass"]
        assert (result.returncode, result.stdout.split()[0]) == ((0, "PASS") if passes else (3, "REFUSED"))
    assert passes is False


@pytest.mark.runs("straight")
def test_an_untrained_autoencoder_hides_replays_so_the_audit_refuses(runs):
    audit = read_audit(runs["straight"].dir / "audit.json")
    assert audit["canaries"]["extraction_rate"] == 0.0
    assert audit["verdict"]["pass"] is False
    assert len(audit["verdict"]["reasons"]) == 1 and "would be recognised" in audit["verdict"]["reasons"][0]


def test_spacy_finds_the_component_anywhere(tmp_path):
    code = (
        "import spacy; nlp = spacy.blank('en'); nlp.add_pipe('deid_sanitizer');"
        "doc = nlp('Compared to ___, the effusion has grown.');"
        "assert '___' not in doc._.sanitized and 'effusion' in doc._.sanitized"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
