"""``cxrguard mitigate`` as a user runs it, on the shipped tiny model and others."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from cxrguard.cli import app
from cxrguard.data.images import load_pixels
from cxrguard.diffusion.encoding import decode_latents
from cxrguard.diffusion.sampling import Sampler
from cxrguard.mitigating.catalogue import MITIGATIONS
from cxrguard.probes.text_noise_norm import TextNoiseNorm
from cxrguard.scoring.model import ScoringModel

SENTINEL = "zyxomatosis"
MARKED = f"PA view. In comparison with the study of ___, mild {SENTINEL} is unchanged."
PROMPTS = [MARKED, "AP view. Small left effusion.", "", MARKED, "___"]
TINY = "packaged:tiny"
SMALL = ["--steps", "3", "--seeds", "2"]
COLUMNS = ["mitigation", "text_noise_norm", "evaluations", "change"]


def mitigate(model: object, prompts: Path, out: object, *more: object) -> Result:
    arguments = ["--model", model, "--prompts", prompts, "--out", out, *SMALL, *more]
    return CliRunner().invoke(app, ["mitigate", *map(str, arguments)])


def table(folder: Path, prompts: list[str] = PROMPTS, **columns: list[str]) -> Path:
    path = folder / "p.csv"
    pd.DataFrame({"id": range(len(prompts)), "prompt": prompts, **columns}).to_csv(path, index=False)
    return path


def test_every_mitigation_on_the_shipped_model(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    done = mitigate(TINY, table(tmp_path), out, "--seed", 3, "--batch-size", 3)
    assert done.exit_code == 0, done.output
    assert "5 rows; 3 different prompts under 14 mitigations and none." in done.stderr and "empty prompt (no figures): 1." in done.stderr
    assert SENTINEL not in done.output and "effusion" not in done.output and done.stdout == ""
    for name in MITIGATIONS:
        assert f"  {name} " in done.stderr
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    found = pd.read_csv(out, keep_default_na=False)
    assert list(found) == ["id", "prompt", *COLUMNS]
    assert found["id"].tolist() == [i for i in range(5) for _ in range(15)]
    assert found["mitigation"].tolist() == ["none", *MITIGATIONS] * 5
    assert found["prompt"].tolist() == [p for p in PROMPTS for _ in range(15)]
    found[COLUMNS[1:]] = found[COLUMNS[1:]].replace("", np.nan).astype(float)
    rows = {i: part.set_index("mitigation") for i, part in found.groupby("id")}
    assert rows[2][COLUMNS[1:]].isna().all(axis=None)
    pd.testing.assert_frame_equal(rows[0].drop(columns="id"), rows[3].drop(columns="id"))
    assert rows[0].loc["none", "evaluations"] == 2 * 3 * 2 and rows[0].loc["none", "change"] == 0
    assert rows[0].loc["initial_noise", "evaluations"] == 2 * 3 * 2 + 2 * 8
    for name in ("static_transition", "dynamic_transition", "opposite_guidance"):
        assert rows[0].loc[name, "text_noise_norm"] == pytest.approx(rows[0].loc["none", "text_noise_norm"], rel=1e-6)
    for name in ("marker_removal", "sanitizer"):  # without a marker nothing is changed; of a marker alone nothing is left
        assert rows[1].loc[name, "change"] == 0 and rows[4].loc[name, "evaluations"] == 0
        assert np.isnan(rows[4].loc[name, "text_noise_norm"]) and np.isnan(rows[4].loc[name, "change"])
    assert "withheld" in done.stderr


@pytest.mark.parametrize("which", ["pipeline_dir", "v_pipeline_dir"])
def test_the_score_is_that_of_score(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source = request.getfixturevalue(which)
    prompts = table(tmp_path)
    done = mitigate(source, prompts, tmp_path / "m.jsonl", "--seed", 5, "--mitigations", "sanitizer,random_number", "--write-prompts")
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [row["mitigation"] for row in rows[:3]] == ["none", "sanitizer", "random_number"] and len(rows) == 15
    model, probe = ScoringModel(str(source)), TextNoiseNorm(steps=1, seeds=2)
    for row in rows[:3]:  # under the original's noise
        alone = probe(model.denoiser, model.batch([row["mitigated_prompt"]], 5, noise_of=MARKED)).item()
        assert row["text_noise_norm"] == pytest.approx(alone, rel=1e-4)
    assert rows[0]["mitigated_prompt"] == MARKED and "___" not in rows[1]["mitigated_prompt"]
    scored = CliRunner().invoke(app, ["score", *map(str, ["--model", source, "--prompts", prompts, "--out", tmp_path / "s.jsonl",
                                                          "--seeds", 2, "--seed", 5])])  # fmt: skip
    assert scored.exit_code == 0, scored.output
    scores = [json.loads(line)["text_noise_norm"] for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    plain = [row["text_noise_norm"] for row in rows[::3]]
    assert [score is None for score in plain] == [score is None for score in scores] == [False, False, True, False, False]
    assert [score for score in plain if score] == pytest.approx([score for score in scores if score], rel=1e-4)


def test_distances_to_own_images(pipeline_dir: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        Image.fromarray(generator.integers(0, 256, (90, 70), dtype=np.uint8)).save(tmp_path / "images" / f"{name}.png")
    absolute = str(tmp_path / "images" / "b.png")
    prompts = table(tmp_path, image=["images/a.png", "", "images/a.png", absolute, absolute])
    done = mitigate(pipeline_dir, prompts, tmp_path / "m.parquet", "--image-column", "image", "--mitigations", "static_transition")
    assert done.exit_code == 0, done.output
    assert "own distance" in done.stderr
    found = pd.read_parquet(tmp_path / "m.parquet")
    assert list(found) == ["id", "prompt", "image", *COLUMNS, "own_distance"]
    plain = found[found["mitigation"] == "none"].set_index("id")
    assert plain["own_distance"].isna().tolist() == [False, True, True, False, False]
    model = ScoringModel(str(pipeline_dir))
    batch = model.batch([MARKED] * 2, 0)
    noise = torch.stack([batch.noise(draw)[0] for draw in range(2)])
    latents = Sampler(model.parts.scheduler.config, 3, 3.0)(model.denoiser, batch.encoder_hidden_states, batch.uncond_hidden_states, noise)
    samples = decode_latents(model.parts, latents)
    for row, name in ((0, "a"), (3, "b")):  # one prompt, generated once, two images
        image = torch.from_numpy(load_pixels(tmp_path / "images" / f"{name}.png", 64) / 127.5 - 1)
        want = min(float(((sample[0] - image) ** 2).mean()) for sample in samples)
        assert plain.loc[str(row), "own_distance"] == pytest.approx(want, rel=1e-4)


def test_figures_do_not_hang_on_the_batch(pipeline_dir: Path, tmp_path: Path) -> None:
    prompts, names = table(tmp_path), "word_repeat,attention_rescaling,initial_noise"
    for size, name in ((1, "a.csv"), (64, "b.csv")):
        done = mitigate(pipeline_dir, prompts, tmp_path / name, "--batch-size", size, "--mitigations", names, "--quiet")
        assert (done.exit_code, done.output) == (0, "")
    a, b = (pd.read_csv(tmp_path / name) for name in ("a.csv", "b.csv"))
    pd.testing.assert_frame_equal(a, b, rtol=1e-3, atol=1e-6)


def test_overwrite_and_a_text_of_prompts(pipeline_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "p.txt"
    source.write_text("Clear lungs.\nSmall effusion.\n")
    assert mitigate(pipeline_dir, source, tmp_path / "a.csv", "--mitigations", "random_word").exit_code == 0
    again = mitigate(pipeline_dir, tmp_path / "a.csv", tmp_path / "b.csv", "--mitigations", "random_word")
    assert again.exit_code == 1 and "there is a column 'mitigation'" in again.output
    over = mitigate(pipeline_dir, tmp_path / "a.csv", tmp_path / "b.csv", "--mitigations", "random_word", "--overwrite")
    assert over.exit_code == 0 and len(pd.read_csv(tmp_path / "b.csv")) == 8


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--mitigations", "nonsense"], 2, "Unknown mitigation 'nonsense': known are random_word"),
        (["--steps", "0"], 2, "--steps"),
        (["--out", "out.txt"], 2, "holds prompts and no scores"),
        (["--prompt-column", "change"], 2, "is the name of a column that is added"),
        (["--prompt-column", "text"], 1, "missing column 'text'"),
        (["--image-column", "nowhere"], 1, "missing column 'nowhere'"),
        (["--image-column", "image"], 1, "row 1: the image in column 'image' is missing."),
        (["--model", "nowhere"], 1, "no such directory; --model takes a diffusers pipeline directory"),
        (["--prompts", "nowhere.csv"], 2, "does not exist"),
    ],
)
def test_bad_input(
    arguments: list[str], status: int, message: str, pipeline_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = mitigate(pipeline_dir, table(tmp_path, image=[f"{SENTINEL}.png"] * 5), "out.csv", *arguments)
    assert done.exit_code == status, done.output
    assert message in " ".join(done.output.replace("│", " ").split())
    assert SENTINEL not in done.output and "Traceback" not in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


def test_as_a_process(pipeline_dir: Path, tmp_path: Path) -> None:
    options = ["--model", str(pipeline_dir), "--prompts", "-", "--out", "-", *SMALL, "--mitigations", "marker_removal"]
    given = (json.dumps({"prompt": MARKED, "more": [1]}) + "\n").encode()
    command = [sys.executable, "-m", "cxrguard.cli", "mitigate", *options]
    done = subprocess.run(command, input=given, capture_output=True, timeout=200, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(row) for row in rows] == [["prompt", "more", *COLUMNS]] * 2
    assert b"reduction" in done.stderr and SENTINEL.encode() not in done.stderr
    assert list(tmp_path.iterdir()) == []
