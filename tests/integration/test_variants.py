"""Other models, precisions and data: each trains to the end."""

from __future__ import annotations

import csv
import json

import pytest
from leaks import leaks, protected
from nih_miniature import write_nih_miniature

from cxrguard.audit.record import read_audit
from cxrguard.data.nih_cxr14 import NihCxr14Reader
from cxrguard.data.prepare import CanarySettings, WithoutPatients


@pytest.mark.runs("v_prediction")
def test_v_prediction_with_a_bert_encoder_trains(runs, v_pipeline_dir):
    from transformers import AutoTokenizer

    run = runs["v_prediction"]
    assert run.status == 0, run.output
    assert read_audit(run.dir / "audit.json")["steps"] == 3
    scheduler = json.loads((run.dir / "pipeline/scheduler/scheduler_config.json").read_text())
    assert scheduler["prediction_type"] == "v_prediction" and scheduler["timestep_spacing"] == "trailing"
    before, after = (AutoTokenizer.from_pretrained(d / "tokenizer") for d in (v_pipeline_dir, run.dir / "pipeline"))
    text = "pleural effusion in comparison with the study"
    assert before(text).input_ids == after(text).input_ids


@pytest.mark.runs("bf16")
def test_bf16_trains_and_exports_float32(runs):
    from safetensors.torch import load_file

    run = runs["bf16"]
    assert run.status == 0, run.output
    weights = load_file(run.dir / "pipeline/unet/diffusion_pytorch_model.safetensors")
    assert {str(value.dtype) for value in weights.values()} == {"torch.float32"}
    assert all(bool(value.isfinite().all()) for value in weights.values())


@pytest.mark.runs("adapters")
def test_adapters_train_are_judged_and_load_in_plain_diffusers(runs, pipeline_dir):
    import torch
    from diffusers import StableDiffusionPipeline

    run = runs["adapters"]
    assert run.status == 0, run.output
    audit = read_audit(run.dir / "audit.json")
    assert audit["steps"] == 3 and audit["weights"] == "ema" and [row["step"] for row in audit["curves"]] == [0, 3]
    state = torch.load(run.dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state and all("lora_" in name for name in state) and {name.split(".")[0] for name in state} == {"unet", "text_encoder"}
    assert json.loads((run.dir / "pipeline/scheduler/scheduler_config.json").read_text())["rescale_betas_zero_snr"] is True

    whole, adapted = (StableDiffusionPipeline.from_pretrained(d, safety_checker=None) for d in (run.dir / "pipeline", pipeline_dir))
    adapted.load_lora_weights(run.dir / "lora")
    adapted.scheduler = whole.scheduler
    images = []
    for pipe in (whole, adapted):
        pipe.set_progress_bar_config(disable=True)
        noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        images.append(pipe("No pneumothorax.", num_inference_steps=3, latents=noise, output_type="latent").images)
    assert torch.allclose(*images, atol=1e-3)


@pytest.mark.runs("nih")
def test_nih_with_a_base_stage_sets_bad_images_aside(runs, tmp_path):
    run = runs["nih"]
    assert run.status == 0, run.output
    data = write_nih_miniature(tmp_path / "same")
    with (run.dir / "quarantine.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["row", "reason"]
    assert [int(row[0]) for row in rows[1:]] == [data.truncated, data.sixteen_bit]
    assert "truncated" in rows[1][1] and "16-bit" in rows[2][1]
    assert (run.dir / "quarantine.csv").stat().st_mode & 0o077 == 0
    assert read_audit(run.dir / "audit.json")["run"]["data"]["quarantined"] == 2
    assert "base stage:" in run.stdout


@pytest.mark.runs("nih")
def test_nih_run_names_no_patient_and_no_file(runs, tmp_path):
    run = runs["nih"]
    data = write_nih_miniature(tmp_path / "same")
    records, _ = NihCxr14Reader(str(data.root), ["AP"]).read()
    settings = CanarySettings(n=4, repeats=4, n_controls=12, n_members=6)
    secrets = protected(records, settings, 0.65) | {name.encode() for name in data.names}
    assert data.patients[1].encode() in secrets
    assert leaks(run.dir, secrets, run.stdout, run.stderr) == []


def test_base_stage_has_none_of_the_studys_patients(tmp_path):
    data = write_nih_miniature(tmp_path / "data", n_patients=40)
    study = {r.subject_id for r in NihCxr14Reader(str(data.root), ["AP"]).read()[0]}
    everyone = {r.subject_id for r in NihCxr14Reader(str(data.root), ["PA"]).read()[0]}
    base = {r.subject_id for r in WithoutPatients(NihCxr14Reader(str(data.root), ["PA"]), frozenset(study)).read()[0]}
    assert everyone & study, "some patients have films of both kinds"
    assert base and not base & study
