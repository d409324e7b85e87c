"""The same seed gives the same bits: with probes or without, straight through or resumed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from leaks import leaks
from PIL import Image

UNET = Path("pipeline/unet/diffusion_pytorch_model.safetensors")


def unet(run: Any) -> bytes:
    assert run.status == 0, run.output
    return (run.dir / UNET).read_bytes()


def audit(run: Any) -> dict[str, Any]:
    """The audit without what may differ: seconds, and the command line with its directories."""
    record = json.loads((run.dir / "audit.json").read_text())
    return {name: value for name, value in record.items() if name not in ("seconds", "run")}


@pytest.mark.runs("straight", "again")
def test_same_seed_same_weights_and_audit(runs):
    assert unet(runs["straight"]) == unet(runs["again"])
    assert audit(runs["straight"]) == audit(runs["again"])
    names = [path.name for path in sorted((runs["straight"].dir / "samples").iterdir())]
    assert all((runs["straight"].dir / "samples" / n).read_bytes() == (runs["again"].dir / "samples" / n).read_bytes() for n in names)


@pytest.mark.runs("judged_again")
def test_two_audits_of_one_checkpoint_are_the_same(runs):
    again, first = runs["judged_again"].dir, runs["judged_again"].dir.with_name("first")
    assert unet(runs["judged_again"]) == (first / UNET).read_bytes()
    records = [json.loads((d / "audit.json").read_text()) for d in (first, again)]
    for record in records:
        assert min(record.pop("seconds").values()) >= 0
    assert records[0] == records[1]
    assert "afresh" not in runs["judged_again"].stdout
    for name in ("scores.csv", "metrics.csv"):
        assert (again / name).read_bytes() == (first / name).read_bytes(), name


@pytest.mark.runs("straight", "unprobed")
def test_probing_changes_no_weight(runs):
    assert unet(runs["straight"]) == unet(runs["unprobed"])
    assert audit(runs["unprobed"])["curves"] == []
    same = ("canaries", "controls", "members", "detectors", "extraction")
    assert all(audit(runs["straight"])[name] == audit(runs["unprobed"])[name] for name in same)


@pytest.mark.runs("unprobed")
def test_images_of_own_prompts_on_the_way(runs):
    run = runs["unprobed"]
    paths = sorted((run.dir / "samples").glob("validation_*"))
    assert [path.name for path in paths] == [f"validation_{step:06d}.png" for step in (0, 3, 6)]
    grids = []
    for path in paths:
        assert path.stat().st_mode & 0o077 == 0
        with Image.open(path) as image:
            grids.append(np.asarray(image))
    assert grids[0].shape == (2 * 64, 2 * 64), "a row a prompt, two samples each"
    assert not np.array_equal(grids[0][:64, :64], grids[0][:64, 64:]), "other noise a sample"
    assert not np.array_equal(grids[0], grids[2]), "the weights have moved"
    with (run.dir / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file) if row.get("validation/replay_rate")] == ["0", "3", "6"]
    assert leaks(run.dir, {b"entinel asterisk"}, run.stdout, run.stderr) == []


@pytest.mark.runs("arms")
def test_other_seed_other_weights(runs):
    weights = [(runs["arms"].dir / str(job) / UNET).read_bytes() for job in range(4)]
    assert len(set(weights)) == 4


@pytest.mark.runs("straight", "resumed")
def test_resumed_run_equals_a_straight_one(runs):
    """Stopped after 3 of 4 batches of the first epoch, at a step where no checkpoint was due."""
    assert unet(runs["resumed"]) == unet(runs["straight"])
    straight, resumed = audit(runs["straight"]), audit(runs["resumed"])
    assert resumed["steps"] == 6
    assert [row["step"] for row in resumed["curves"]] == [0, 3, 6]
    same = ("canaries", "controls", "members", "detectors", "extraction", "fidelity")
    assert all(straight[name] == resumed[name] for name in same)


@pytest.mark.runs("straight", "resumed")
def test_resumed_run_keeps_its_metrics(runs):
    def rows(run: Any) -> list[dict[str, str]]:
        with (run.dir / "metrics.csv").open(newline="") as file:
            return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file) if row["heldout/loss"]]

    assert rows(runs["resumed"]) == rows(runs["straight"])


@pytest.mark.runs("resumed")
def test_last_without_a_checkpoint_starts_afresh_and_says_so(runs):
    first, second = runs["resumed"].stdout.split("--- resumed ---")
    assert "starts afresh" in first and "hydra.run.dir" in first
    assert "afresh" not in second and "step 1/" not in second
    assert "resum" not in runs["resumed"].stderr, "no warning about a resume that is exact"
