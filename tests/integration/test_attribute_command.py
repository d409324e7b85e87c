"""``cxrguard attribute`` as a user runs it."""

from __future__ import annotations

import json
import pickle
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from cxrguard.cli import app
from cxrguard.probes.attribution import attribute_tokens
from cxrguard.probes.text_noise_norm import TextNoiseNorm
from cxrguard.probes.tokens import SECTIONS
from cxrguard.probes.words import words_of
from cxrguard.sanitizer.cues.token_list import load_token_list
from cxrguard.scoring import launch, worker
from cxrguard.scoring.attribution import Attribution, Attributor, Piece
from cxrguard.scoring.detectors import Draws
from cxrguard.scoring.model import ScoringModel
from cxrguard.scoring.pieces import PieceDirectory

SENTINEL = "zyxomatosis"
PROMPTS = [f"FINDINGS: PA view, {SENTINEL} since ___.", "", "Heart size is normal.", f"FINDINGS: PA view, {SENTINEL} since ___."]
COLUMNS = ["row", "level", "index", "start", "end", "text_hash", "gradient", "gradient_times_input", "ablation"]


@pytest.fixture(autouse=True)
def key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRGUARD_KEY_FILE", str(tmp_path_factory.getbasetemp() / "key"))


def attribute(model: Path, prompts: Path, out: Path, *more: object) -> Result:
    arguments = ["--model", model, "--prompts", prompts, "--out", out, "--seeds", 1, *more]
    return CliRunner().invoke(app, ["attribute", *map(str, arguments)])


def table(folder: Path, prompts: list[str]) -> Path:
    path = folder / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return path


@pytest.mark.parametrize("which", ["pipeline_dir", "v_pipeline_dir"])
def test_the_contract(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source, out = request.getfixturevalue(which), tmp_path / "out.csv"
    more = ["--words", tmp_path / "words.csv", "--summary", tmp_path / "told.json", "--min-prompts", 2]
    prompts = table(tmp_path, [*PROMPTS, "Heart size is since ___."])
    done = attribute(source, prompts, out, "--seed", 3, "--batch-size", 2, *more)
    assert done.exit_code == 0, done.output
    assert "5 rows; 3 different prompts attributed." in done.output
    found = pd.read_csv(out)
    assert list(found) == COLUMNS
    assert found["row"].unique().tolist() == [1, 3, 4, 5]
    first, again = (found[found["row"] == row].drop(columns="row").reset_index(drop=True) for row in (1, 4))
    pd.testing.assert_frame_equal(first, again)
    words = first[first["level"] == "word"]
    assert list(zip(words["start"], words["end"], strict=True)) == [(word.start, word.end) for word in words_of(PROMPTS[0])]
    assert [PROMPTS[0][s:e] for s, e in zip(words["start"], words["end"], strict=True)][-2:] == ["since", "___"]
    assert first[first["level"] == "token"]["ablation"].isna().all()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert SENTINEL not in out.read_text() + done.output
    _check_corpus(found, tmp_path, done.output)

    model = ScoringModel(str(source))
    batch = model.batch([PROMPTS[0]], 3)
    tokens = attribute_tokens(model.denoiser, batch, seeds=1)
    assert batch.tokens is not None
    own = batch.tokens.section("prompt")[0]
    rows = first[first["level"] == "token"]
    assert rows["gradient"].tolist() == pytest.approx(tokens.gradient[0][own].tolist(), rel=1e-3)
    assert rows["index"].tolist() == own.nonzero().flatten().tolist()
    without = PROMPTS[0].replace(f" {SENTINEL}", "")
    probe = TextNoiseNorm(steps=1, seeds=1)
    loss = probe(model.denoiser, batch) - probe(model.denoiser, model.batch([without], 3, noise_of=PROMPTS[0]))
    assert words["ablation"].tolist()[3] == pytest.approx(loss.item(), rel=1e-2, abs=1e-5)
    told = json.loads((tmp_path / "told.json").read_text())
    parts = [
        attribute_tokens(model.denoiser, model.batch([text], 3), seeds=1) for text in (PROMPTS[0], PROMPTS[2], "Heart size is since ___.")
    ]
    for name in SECTIONS:
        expected = [float(part.by_section()[name]) for part in parts]
        assert told["sections"][name]["gradient"]["mean"] == pytest.approx(sum(expected) / 3, rel=1e-3)


def _check_corpus(found: pd.DataFrame, folder: Path, output: str) -> None:
    """The words of all prompts against the rows of each."""
    ranked = pd.read_csv(folder / "words.csv")
    rows = found[(found["level"] == "word") & (found["row"] != 4)]  # row 4 repeats row 1
    by_word = rows.groupby("text_hash")["ablation"].agg(["mean", "count"]).query("count >= 2").sort_values("mean", ascending=False)
    assert ranked["word_hash"].tolist() == by_word.index.tolist() and len(ranked) == 5
    assert ranked["ablation"].tolist() == pytest.approx(by_word["mean"].tolist())
    assert ranked["rank"].tolist() == [1, 2, 3, 4, 5] and ranked["prompts"].tolist() == [2] * 5
    assert ranked["marker"].sum() == 1
    assert (ranked["ablation_low"] <= ranked["ablation"]).all() and (ranked["ablation"] <= ranked["ablation_high"]).all()
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in ("words.csv", "told.json")} == {0o600}
    opposite = rows["gradient_times_input"] * rows["ablation"] < 0
    told = json.loads((folder / "told.json").read_text())["agreement"]
    assert told["words_of_opposite_sign"]["mean"] == pytest.approx(opposite.mean())
    assert f"opposite signs: {100 * opposite.mean():.0f} % (95 % interval" in output
    assert "Rank correlation of gradient times input with ablation within a prompt: " in output
    assert SENTINEL not in (folder / "words.csv").read_text() + (folder / "told.json").read_text()


def test_interrupted_and_resumed_on_two_devices(pipeline_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill leaves are the parts that were written, each whole (test_score_command.py kills a process)."""
    monkeypatch.setattr(worker, "PART_PROMPTS", 4)
    prompts, out, straight = (tmp_path / name for name in ("p.jsonl", "o.jsonl", "s.jsonl"))
    table(tmp_path, [f"Nodule of {i % 17} mm." for i in range(20)])
    options = ["--batch-size", 4, "--no-ablation"]
    assert attribute(pipeline_dir, prompts, straight, *options).exit_code == 0

    written = PieceDirectory.write_part
    parts: list[int] = []

    def write(self: PieceDirectory, rank: int, part: Any) -> None:
        if len(parts) == 2:
            raise KeyboardInterrupt
        written(self, rank, part)
        parts.append(rank)

    monkeypatch.setattr(PieceDirectory, "write_part", write)
    assert attribute(pipeline_dir, prompts, out, *options).exit_code != 0
    work = tmp_path / "o.jsonl.partial"
    assert not out.exists() and len(list(work.glob("*.parquet"))) == 2 and stat.S_IMODE(work.stat().st_mode) == 0o700
    monkeypatch.setattr(PieceDirectory, "write_part", written)

    ranks = []

    def both_in_turn(devices: int, share: Any, notes: Path) -> None:
        for rank in range(devices):
            before = set(notes.glob("*.parquet"))
            pickle.loads(pickle.dumps(share))("cpu", rank, devices)  # as it is sent to a process
            ranks.append(len(set(notes.glob("*.parquet")) - before))

    monkeypatch.setattr(launch, "run_on", both_in_turn)
    done = attribute(pipeline_dir, prompts, out, *options, "--devices", 2)
    assert done.exit_code == 0, done.output
    assert "going on after 8 prompts." in done.output and "20 rows; 17 different prompts attributed." in done.output
    assert ranks == [2, 1]  # of five batches two were done
    assert not work.exists()
    one, other = (pd.read_json(path, lines=True) for path in (out, straight))
    pd.testing.assert_frame_equal(one, other, rtol=1e-6)
    assert one["row"].unique().tolist() == list(range(1, 21))
    assert not one.duplicated(["row", "level", "index"]).any()


def test_words_shown_and_no_ablation(pipeline_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    done = attribute(pipeline_dir, table(tmp_path, [*PROMPTS, "clear " * 90]), out, "--no-ablation", "--show-words")
    assert done.exit_code == 0, done.output
    assert "Prompts longer than the text encoder takes (cut; words beyond have no gradient): 1." in done.output
    assert SENTINEL not in done.output
    found = pd.read_parquet(out)
    assert found["ablation"].isna().all()
    words = found[(found["level"] == "word") & (found["row"] == 3)]
    assert words["text"].tolist() == ["Heart", "size", "is", "normal"]
    long = found[(found["level"] == "word") & (found["row"] == 5)]
    assert len(long) == 90
    assert long["gradient"].isna().iloc[-1] and not long["gradient"].isna().iloc[0]


def raised_by(*words: str) -> Callable[[Attributor, Sequence[str]], list[Attribution]]:
    """The attribution as it is, but with scores that only ``words`` raise; an untrained model's signs are chance."""
    real = Attributor.__call__

    def score(prompt: str, piece: Piece) -> Piece:
        return replace(piece, gradient_times_input=1.0 if prompt[piece.start : piece.end] in words else -1.0)

    def call(self: Attributor, prompts: Sequence[str]) -> list[Attribution]:
        found = zip(prompts, real(self, prompts), strict=True)
        return [replace(each, pieces=tuple(score(prompt, piece) for piece in each.pieces)) for prompt, each in found]

    return call


STARTS = [f"Additionally, the lungs are clear, {SENTINEL} {n} however here." for n in range(24)]


@pytest.mark.parametrize("ending", [".csv", ".txt", ".json", ".jsonl"])
def test_cues_are_a_list_for_the_sanitizer(ending: str, pipeline_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Attributor, "__call__", raised_by("Additionally", SENTINEL, "Furthermore"))
    cues = tmp_path / f"cues{ending}"
    prompts = table(tmp_path, [*STARTS, "Furthermore no change."])
    done = attribute(pipeline_dir, prompts, tmp_path / "o.csv", "--cues", cues, "--no-ablation")
    assert done.exit_code == 0, done.output
    rules, refused = load_token_list(cues)
    assert len(rules) == 1 and not refused
    assert "additionally" in cues.read_text()
    assert "furthermore" not in cues.read_text()  # in too few prompts
    assert stat.S_IMODE(cues.stat().st_mode) == 0o600
    assert SENTINEL not in done.output + cues.read_text()
    assert (tmp_path / "o.csv").exists()


def test_no_word_for_the_sanitizer(pipeline_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Attributor, "__call__", raised_by(SENTINEL))
    done = attribute(pipeline_dir, table(tmp_path, STARTS), tmp_path / "o.csv", "--cues", tmp_path / "cues.csv", "--no-ablation")
    assert done.exit_code == 1
    assert "the sanitizer may touch none (1 may carry a fact)" in done.output
    assert SENTINEL not in done.output
    assert (tmp_path / "o.csv").exists() and not (tmp_path / "cues.csv").exists()


def test_the_cues_go_into_sanitize(tmp_path: Path) -> None:
    (tmp_path / "cues.csv").write_text("word,prompts,score\nadditionally,30,0.5\n")
    (tmp_path / "in.csv").write_text('prompt\n"Additionally, the lungs are clear."\n')
    files = [str(tmp_path / name) for name in ("in.csv", "out.csv", "cues.csv")]
    done = CliRunner().invoke(app, ["sanitize", *files[:2], "--text-column", "prompt", "--cues", files[2], "--quiet"])
    assert done.exit_code == 0, done.output
    assert pd.read_csv(tmp_path / "out.csv")["sanitized"].tolist() == ["The lungs are clear."]


def test_attributor_does_not_depend_on_the_batch(pipeline_dir: Path) -> None:
    model = ScoringModel(str(pipeline_dir))
    prompts = [PROMPTS[0], PROMPTS[2]]
    together = Attributor(model, Draws(), 0, ablation=True, batch_size=8)(prompts)
    alone = [Attributor(model, Draws(), 0, ablation=True, batch_size=1)([prompt])[0] for prompt in prompts]
    for one, other in zip(together, alone, strict=True):
        assert [piece.gradient for piece in one.pieces] == pytest.approx([piece.gradient for piece in other.pieces], rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--cues", "cues.yaml"], 2, "a cue file ends in"),
        (["--words", "words.txt"], 2, "--words: words.txt is none of .csv, .jsonl, .parquet"),
        (["--prompt-column", "text"], 1, "missing column 'text'"),
        (["--model", "nowhere"], 1, "no such directory; --model takes a diffusers pipeline directory"),
    ],
)
def test_bad_input(arguments: list[str], status: int, message: str, pipeline_dir: Path, tmp_path: Path) -> None:
    done = attribute(pipeline_dir, table(tmp_path, PROMPTS), tmp_path / "out.csv", *arguments)
    assert done.exit_code == status
    assert message in " ".join(done.output.replace("│", " ").split())
    assert SENTINEL not in done.output
    assert not (tmp_path / "out.csv").exists()


def test_as_a_process(pipeline_dir: Path, tmp_path: Path) -> None:
    options = ["--model", str(pipeline_dir), "--prompts", "-", "--out", "-", "--seeds", "1", "--quiet"]
    command = [sys.executable, "-m", "cxrguard.cli", "attribute", *options]
    done = subprocess.run(command, input=b'{"prompt": "Clear lungs."}\n', capture_output=True, timeout=200, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["level"] for row in rows].count("word") == 2
    assert list(rows[0]) == COLUMNS
    assert list(tmp_path.iterdir()) == []
