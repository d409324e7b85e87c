"""What a user gets wrong: one message that names the place and the remedy, exit status 1, no traceback."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from nih_miniature import write_nih_miniature

Train = Callable[..., subprocess.CompletedProcess[str]]
TABLE = "Data_Entry_2017_v2020.csv"


def complaint(result: subprocess.CompletedProcess[str], run_dir: Path | None) -> str:
    """The only message of a run that failed; also in its status.json."""
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    message = lines[0].removeprefix("error: ")
    if run_dir is not None:
        status = json.loads((run_dir / "status.json").read_text())
        assert (status["status"], status["error"]) == ("failed", message)
        assert not (run_dir / "audit.json").exists()
    return message


@pytest.fixture
def fails(train: Train, tmp_path: Path, pipeline_dir: Path) -> Callable[..., str]:
    """The message of a run with these overrides."""

    def run(*overrides: str) -> str:
        source = [] if any(o.startswith("model.source=") for o in overrides) else [f"model.source={pipeline_dir}"]
        result = train("model=pipeline", *source, f"hydra.run.dir={tmp_path / 'out'}", *overrides)
        return complaint(result, tmp_path / "out")

    return run


def test_nih_without_a_directory(fails):
    message = fails("data=nih_cxr14")
    assert "data.root=" in message and TABLE in message


def test_nih_table_without_a_column(fails, tmp_path):
    data = write_nih_miniature(tmp_path / "data", n_patients=20)
    table = data.root / TABLE
    table.write_text(table.read_text().replace("Patient ID", "Patient Number"))
    message = fails("data=nih_cxr14", f"data.root={data.root}")
    assert str(table) in message and "'Patient ID'" in message and "'Patient Number'" in message
    assert not any(name in message for name in data.names)


def test_too_many_missing_images(fails, tmp_path):
    data = write_nih_miniature(tmp_path / "data", n_patients=20)
    for name in data.names[::2]:
        (data.root / "images" / name).unlink()
    message = fails("data=nih_cxr14", f"data.root={data.root}", "data.max_bad_fraction=0.1")
    assert "the image file is missing" in message and "data.max_bad_fraction" in message and "10.0%" in message
    assert str(tmp_path / "out" / "quarantine.csv") in message
    assert not any(name in message for name in data.names)
    with (tmp_path / "out" / "quarantine.csv").open(newline="") as file:
        assert {row["reason"] for row in csv.DictReader(file)} >= {"the image file is missing"}


def test_empty_prompts_in_a_table(fails, tmp_path):
    data = write_nih_miniature(tmp_path / "data", n_patients=20)
    table = tmp_path / "table.csv"
    rows = [[f"images/{name}", "" if i < 3 else f"sentinel report {i}", f"sentinel-subject-{i}"] for i, name in enumerate(data.names)]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["image", "prompt", "subject_id"], *rows])
    message = fails("data=table", f"data.path={table}", f"data.root={data.root}")
    assert "the prompt is empty or not text (3)" in message and "quarantine.csv" in message and "data.max_bad_fraction" in message
    assert "sentinel" not in message
    assert [row.split(",")[0] for row in (tmp_path / "out" / "quarantine.csv").read_text().splitlines()[1:4]] == ["1", "2", "3"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpu_without_one(fails):
    message = fails("trainer.accelerator=gpu")
    assert "trainer.accelerator=gpu" in message and "trainer.accelerator=cpu" in message


def test_pickled_weights_are_not_loaded(fails, tmp_path, pipeline_dir):
    model = tmp_path / "model"
    shutil.copytree(pipeline_dir, model)
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    (model / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"not opened")
    message = fails(f"model.source={model}")
    assert "unet/diffusion_pytorch_model.bin" in message and "safe_serialization=True" in message


def test_custom_code_is_not_run(fails, tmp_path, pipeline_dir):
    model = tmp_path / "model"
    shutil.copytree(pipeline_dir, model)
    ran = tmp_path / "ran"
    (model / "unet" / "my_unet.py").write_text(f"open({str(ran)!r}, 'w')")
    message = fails(f"model.source={model}")
    assert "unet/my_unet.py" in message and "never run" in message
    assert not ran.exists()


def test_a_part_to_train_that_is_unknown_is_told_before_anything_is_loaded(fails, tmp_path):
    message = fails("model.module.unet=everything", f"cache.dir={tmp_path / 'kept'}", "model.source=/nowhere")
    assert message.startswith("model.module.unet=everything: is none of full, frozen, lora")
    assert not (tmp_path / "kept").exists()


def test_checkpoint_that_is_not_there(fails):
    message = fails("ckpt_path=/nowhere/some.ckpt")
    assert "ckpt_path=/nowhere/some.ckpt" in message and "last" in message and "hydra.run.dir" in message


def test_checkpoint_that_was_cut_off(fails, tmp_path):
    cut = tmp_path / "out" / "checkpoints" / "last.ckpt"
    cut.parent.mkdir(parents=True)
    cut.write_bytes(b"PK\x03\x04 half a file")
    message = fails("ckpt_path=last")
    assert str(cut) in message and "cut off" in message


def test_unknown_config_name(train):
    result = train("sanitizer=nope")
    assert result.returncode == 1
    assert "Could not find 'sanitizer/nope'" in result.stderr and "mimic_cxr" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_no_canaries_says_which_figures_would_be_null(fails):
    message = fails("canaries.n=0")
    assert "canaries.n" in message and "null" in message
    assert all(figure in message for figure in ("extraction rate", "AUC", "TPR", "threshold", "exposure"))


def test_a_detector_that_fails_does_so_before_the_training(fails, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    message = fails("+probe.broken._target_=broken_probe.BrokenProbe")
    assert "'broken'" in message and "IndexError" in message and "~probe.broken" in message and "PROMPT" not in message
