"""``cxrguard score`` as a user runs it."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import Result
from transformers import CLIPTextConfig, CLIPTextModel
from typer.testing import CliRunner

from cxrguard.cli import app
from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.diffusion.encoding import encode_prompts
from cxrguard.diffusion.loading import load_pipeline
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_noise_norm import TextNoiseNorm
from cxrguard.randomness import prompt_key

SENTINEL = "zyxomatosis"
PROMPTS = [
    f"FINDINGS: PA view. {SENTINEL} since ___.",
    "Heart size is normal, and the lungs are clear.",
    "",
    f"FINDINGS: PA view. {SENTINEL} since ___.",
    "Small left effusion,\n\"quoted\" – second line.",
    "clear " * 200,
]  # fmt: skip
COLUMNS = ["text_noise_norm", "text_noise_norm_rms"]
FEW = ["--seeds", "1", "--batch-size", "2"]
COMMAND = [sys.executable, "-m", "cxrguard.cli", "score"]
# As the command, but parts are written often, so that a kill finds some.
OFTEN = [sys.executable, "-c", "from cxrguard.scoring import worker; worker.PART_PROMPTS = 4; from cxrguard.cli import app; app()", "score"]


@pytest.fixture(autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread here and in the processes started: the number of threads decides the order of sums, so the last digits."""
    monkeypatch.setenv("CXRGUARD_KEY_FILE", str(tmp_path_factory.getbasetemp() / "key"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "prompt", "note"), *((i, prompt, f"n{i}") for i, prompt in enumerate(PROMPTS))])
    return path


def score(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def options(model: Path, prompts: Path, out: Path) -> list[object]:
    return ["--model", model, "--prompts", prompts, "--out", out, *FEW]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def many(path: Path, n: int) -> Path:
    path.write_text("".join(json.dumps({"i": i, "prompt": f"Nodule of {i % (n - 10)} mm."}) + "\n" for i in range(n)))
    return path


def naive(model: Path, prompt: str, *, steps: int, seeds: int, seed: int) -> tuple[float, float]:
    parts = load_pipeline(str(model))
    latents = torch.zeros(1, parts.unet.config.in_channels, 8, 8)
    batch = ProbeBatch(
        encode_prompts(parts, [prompt]), encode_prompts(parts, [""]), latents, (prompt_key(prompt),), seed, parts.scheduler.config
    )
    denoiser = UNetDenoiser(parts.unet.eval(), parts.alphas_cumprod, parts.prediction_type)
    one, other = (TextNoiseNorm(steps=steps, seeds=seeds, rms=rms)(denoiser, batch) for rms in (False, True))
    return one.item(), other.item()


@pytest.mark.parametrize("which", ["pipeline_dir", "v_pipeline_dir"])
def test_the_contract(which: str, table: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model, out = request.getfixturevalue(which), tmp_path / "out.csv"
    done = subprocess.run(
        [*COMMAND, *map(str, options(model, table, out)), "--steps", "2", "--seeds", "2", "--seed", "5"], capture_output=True, timeout=200
    )
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "prompt", "note", *COLUMNS]
    assert [(row["id"], row["prompt"], row["note"]) for row in rows] == [(str(i), p, f"n{i}") for i, p in enumerate(PROMPTS)]
    assert rows[0]["text_noise_norm"] == rows[3]["text_noise_norm"]
    assert [rows[2][column] for column in COLUMNS] == ["", ""]
    for i in (0, 1, 4, 5):
        expected = naive(model, PROMPTS[i], steps=2, seeds=2, seed=5)
        assert [float(rows[i][column]) for column in COLUMNS] == pytest.approx(expected, rel=1e-4)
    assert mode(out) == 0o600
    assert not (tmp_path / "out.csv.partial").exists()
    told = done.stderr.decode()
    assert "6 rows; 4 different prompts scored with 8 UNet evaluations each." in told
    assert "repeat a prompt (scored once; all its rows have its score): 1." in told
    assert "empty prompt (no score): 1." in told
    assert "longer than the text encoder takes (cut; the score is of what is left): 1." in told
    assert SENTINEL not in told and "effusion" not in told
    assert len(told.splitlines()) == 4


def _as_jsonl(folder: Path) -> Path:
    path = folder / "p.jsonl"
    path.write_text("".join(json.dumps({"id": i, "prompt": prompt, "more": {"a": [1]}}) + "\n" for i, prompt in enumerate(PROMPTS)))
    return path


def _as_parquet(folder: Path) -> Path:
    pd.DataFrame({"id": range(len(PROMPTS)), "prompt": PROMPTS}).to_parquet(folder / "p.parquet")
    return folder / "p.parquet"


def _as_text(folder: Path) -> Path:
    (folder / "p.txt.gz").write_bytes(gzip.compress("".join(p.replace("\n", " ") + "\n" for p in PROMPTS).encode()))
    return folder / "p.txt.gz"


def read(path: Path) -> pd.DataFrame:
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": pd.read_csv, ".parquet": pd.read_parquet, ".jsonl": lambda p: pd.read_json(p, lines=True),
    }  # fmt: skip
    return readers[path.suffix](path)


@pytest.mark.parametrize(
    ("write", "name"), [(_as_jsonl, "o.jsonl"), (_as_parquet, "o.parquet"), (_as_text, "o.csv"), (_as_jsonl, "o.parquet")]
)
def test_formats(write: Callable[[Path], Path], name: str, pipeline_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / name
    done = score(*options(pipeline_dir, write(tmp_path), out), "--detectors", "text_noise_norm_rms,pure_noise_norm", "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    scores = read(out)
    added = [*COLUMNS, "pure_noise_norm"]
    assert list(scores)[-3:] == added
    assert scores[added].dtypes.tolist() == ["float64"] * 3
    assert scores["prompt"].fillna("").tolist()[1] == PROMPTS[1]
    assert scores[added].isna().any(axis=1).tolist() == [False, False, True, False, False, False]
    if name == "o.jsonl":
        first, third = (json.loads(line) for line in out.read_text().splitlines()[0:3:2])
        assert first["more"] == {"a": [1]}
        assert third["text_noise_norm"] is None
    assert mode(out) == 0o600


def test_standard_input_and_output(pipeline_dir: Path, tmp_path: Path) -> None:
    given = b'{"prompt": "Clear lungs.", "k": 1}\n'
    done = subprocess.run(
        [*COMMAND, *map(str, options(pipeline_dir, Path("-"), Path("-"))), "--quiet"],
        input=given,
        capture_output=True,
        timeout=200,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert list(json.loads(done.stdout)) == ["prompt", "k", *COLUMNS]
    assert list(tmp_path.iterdir()) == []


def test_two_devices_give_the_same_table(pipeline_dir: Path, tmp_path: Path) -> None:
    prompts = many(tmp_path / "p.jsonl", 40)
    both = []
    for devices in (1, 2):
        out = tmp_path / f"{devices}.jsonl"
        arguments = [*options(pipeline_dir, prompts, out), "--batch-size", "4", "--devices", devices]
        done = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, timeout=280)
        assert done.returncode == 0, done.stderr
        assert done.stderr.decode().splitlines()[0] == "40 rows; 30 different prompts scored with 2 UNet evaluations each."
        both.append(read(out))
    pd.testing.assert_frame_equal(*both, rtol=1e-6)


def test_killed_and_resumed(pipeline_dir: Path, tmp_path: Path) -> None:
    prompts, out = many(tmp_path / "p.jsonl", 150), tmp_path / "o.jsonl"
    arguments = [*options(pipeline_dir, prompts, out), "--seeds", "2", "--batch-size", "4"]
    job = subprocess.Popen([*OFTEN, *map(str, arguments)], stderr=subprocess.DEVNULL)
    work = tmp_path / "o.jsonl.partial"
    deadline = time.monotonic() + 200
    while len(list(work.glob("*.parquet"))) < 3 and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    job.send_signal(signal.SIGKILL)
    job.wait(30)
    parts = {path: path.stat().st_mtime_ns for path in work.glob("*.parquet")}
    assert 3 <= len(parts) < 35, "the kill came too late or too early"
    assert not out.exists()
    assert mode(work) == 0o700
    assert {mode(path) for path in work.iterdir()} == {0o600}
    assert SENTINEL.encode() not in b"".join(path.read_bytes() for path in work.iterdir())
    kept = tmp_path / "kept"
    shutil.copytree(work, kept)

    done = score(*arguments)
    assert done.exit_code == 0, done.output
    n = int(done.output.split("going on after ")[1].split(" prompts")[0])
    assert n == 4 * len(parts)
    assert not work.exists()
    straight = score(*options(pipeline_dir, prompts, tmp_path / "straight.jsonl"), "--seeds", "2", "--batch-size", "4", "--quiet")
    assert straight.exit_code == 0
    assert out.read_bytes() == (tmp_path / "straight.jsonl").read_bytes()
    assert read(out)["i"].tolist() == list(range(150))

    # What another run left is of no use for other arguments, and it says so.
    shutil.copytree(kept, work)
    other = score(*options(pipeline_dir, prompts, out), "--seeds", "1", "--batch-size", "32")
    assert "with another model, other arguments or other prompts was there: starting afresh." in other.output
    assert (read(out)["text_noise_norm"] != read(tmp_path / "straight.jsonl")["text_noise_norm"]).all()
    assert not work.exists()


def test_a_batch_system_ends_it(pipeline_dir: Path, tmp_path: Path) -> None:
    prompts, out = many(tmp_path / "p.jsonl", 4000), tmp_path / "o.jsonl"
    job = subprocess.Popen([*OFTEN, *map(str, options(pipeline_dir, prompts, out)), "--devices", "2"], stderr=subprocess.PIPE)
    work = tmp_path / "o.jsonl.partial"
    deadline = time.monotonic() + 200
    while not list(work.glob("*.parquet")) and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    children = [int(pid) for pid in Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()]
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 128 + signal.SIGTERM
    assert job.stderr is not None
    assert b"Traceback" not in job.stderr.read()
    assert not out.exists()
    assert list(work.glob("*.parquet"))
    assert len(children) >= 2
    deadline = time.monotonic() + 30  # multiprocessing's own tracker ends a moment later
    while any(map(_runs, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_runs, children))


def _runs(pid: int) -> bool:
    """Whether there is such a process, and not only its entry that nobody has collected."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_the_benchmark(pipeline_dir: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.csv"
    done = score(*options(pipeline_dir, table, out), "--detectors", "pure_noise_norm,text_noise_norm", "--top", "25%", "--zscore", "1.5")
    assert done.exit_code == 0, done.output
    scores, benchmark = read(out), tmp_path / "o.benchmark.csv"
    chosen = read(benchmark)
    assert list(chosen) == ["prompt_hash", "rows", "marked", "pure_noise_norm", *COLUMNS, "percentile", "zscore"]
    highest = scores["pure_noise_norm"].idxmax()
    assert chosen["pure_noise_norm"].tolist()[0] == scores["pure_noise_norm"][highest]
    assert chosen["rows"][0] == (scores["prompt"] == scores["prompt"][highest]).sum()
    card = (tmp_path / "o.benchmark.md").read_text()
    assert "top 25% (1 prompts) or z-score ≥ 1.5" in card
    assert "| With a de-identification marker, of all | 1 of 4 (25.0 %) |" in card
    assert [mode(tmp_path / name) for name in ("o.benchmark.csv", "o.benchmark.md")] == [0o600] * 2
    for path in (benchmark, tmp_path / "o.benchmark.md"):
        assert SENTINEL not in path.read_text() and "effusion" not in path.read_text()
    shown = tmp_path / "shown.jsonl"
    assert score(*options(pipeline_dir, table, out), "--top", "4", "--benchmark", shown, "--show-prompts").exit_code == 0
    assert set(read(shown)["prompt"]) == set(PROMPTS) - {""}


def test_base(pipeline_dir: Path, table: Path, tmp_path: Path) -> None:
    asked = [*options(pipeline_dir, table, tmp_path / "o.csv"), "--detectors", "base_noise_gap"]
    without = score(*asked)
    assert without.exit_code == 2
    assert "'base_noise_gap' compares with the checkpoint that fine-tuning started from" in without.output
    assert score(*asked, "--base", pipeline_dir).exit_code == 0
    assert read(tmp_path / "o.csv")["base_noise_gap"].dropna().tolist() == [0.0] * 5


def _no_index(model: Path) -> None:
    (model / "model_index.json").unlink()


def _pickled(model: Path) -> None:
    (model / "unet" / "diffusion_pytorch_model.safetensors").rename(model / "unet" / "diffusion_pytorch_model.bin")


def _code(model: Path) -> None:
    (model / "pipeline.py").write_text("raise SystemExit(7)")


def _long_prompts(model: Path) -> None:
    path = model / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 512}))


def _wider_encoder(model: Path) -> None:
    config = CLIPTextConfig.from_pretrained(model / "text_encoder", hidden_size=24, num_attention_heads=2)
    CLIPTextModel(config).save_pretrained(model / "text_encoder")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_index, "has no model_index.json"),
        (_pickled, "pickled weights are never loaded"),
        (_code, "brings custom code"),
        (_wider_encoder, "its text encoder (CLIPTextModel) cannot be taken: it gives states of size 24, the UNet attends to 16"),
        (_long_prompts, "its tokenizer pads prompts to 512, which its text encoder (CLIPTextModel, 77 positions) cannot take"),
    ],
)
def test_bad_models(spoil: Callable[[Path], None], message: str, pipeline_dir: Path, table: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(pipeline_dir, model)
    spoil(model)
    before = set(tmp_path.iterdir())
    _fails(score(*options(model, table, tmp_path / "o.csv")), message)
    assert set(tmp_path.iterdir()) == before


def _fails(done: Result, message: str, status: int = 1) -> None:
    assert done.exit_code == status, done.output
    assert message in done.output
    assert SENTINEL not in done.output
    if status == 1:
        assert done.output.startswith("Error: ")
        assert done.output.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "the file is empty"),
        ("a.csv", "prompt\n", "holds no prompt"),
        ("a.txt", "", "holds no prompt"),
        ("a.jsonl", '{"prompt": ""}\n', "all 1 prompts in column 'prompt' are empty"),
        ("a.csv", f"text\n{SENTINEL}\n", "missing column 'prompt'. Columns found: 'text'. Choose one with --prompt-column."),
        ("a.csv", f"prompt,text_noise_norm\n{SENTINEL},1\n", "there is a column 'text_noise_norm' already"),
        ("a.parquet", SENTINEL, "not a readable Parquet file"),
    ],
)
def test_bad_prompts(name: str, content: str, message: str, pipeline_dir: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / name, tmp_path / "o.jsonl"
    prompts.write_text(content)
    out.write_text("old")
    _fails(score(*options(pipeline_dir, prompts, out)), message)
    assert out.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {name, "o.jsonl"}


def test_bad_use(pipeline_dir: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.csv"
    good = options(pipeline_dir, table, out)
    wrong: list[tuple[list[Any], str]] = [
        ([*good, "--detectors", "nope"], "Unknown detector 'nope'"),
        ([*good, "--steps", "51"], "--steps"),
        ([*good, "--top", "0"], "--top is a share such as 1%"),
        ([*good, "--detectors", "noise_consistency"], "seeds must be at least 2"),
        (options(pipeline_dir, tmp_path / "gone.csv", out), "does not exist"),
        (options(pipeline_dir, table, tmp_path / "o.txt"), "holds prompts and no scores"),
    ]
    for arguments, message in wrong:
        done = score(*arguments)
        assert done.exit_code == 2
        assert message in " ".join(done.output.replace("│", " ").split())
    _fails(score(*options(tmp_path / "nowhere", table, out)), "no such directory; --model takes a diffusers pipeline directory")
    assert score(*good, "--overwrite", "--quiet").exit_code == 0
    again = score(*options(pipeline_dir, out, tmp_path / "p.csv"), "--overwrite", "--quiet")
    assert again.exit_code == 0
    assert out.read_bytes() == (tmp_path / "p.csv").read_bytes()


def test_a_process_that_fails(pipeline_dir: Path, table: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(pipeline_dir, model)
    (model / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"broken")
    done = subprocess.run(
        [*COMMAND, *map(str, options(model, table, tmp_path / "o.csv")), "--devices", "2"], capture_output=True, timeout=200
    )
    assert done.returncode == 1
    assert b"cannot be loaded as a diffusers pipeline" in done.stderr
    assert b"Traceback" not in done.stderr
    assert SENTINEL.encode() not in done.stderr
