"""``cxrguard sensitivity`` as a user runs it."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from cxrguard.cli import app
from cxrguard.probes.text_noise_norm import TextNoiseNorm
from cxrguard.probes.words import cut_out
from cxrguard.scoring.detectors import Draws
from cxrguard.scoring.keyed_scorer import NoiseKeyedScorer
from cxrguard.scoring.model import ScoringModel
from cxrguard.scoring.sensitivity import VOCABULARY, SensitivityProbe, words_changed

SENTINEL = "zyxomatosis"
MARKED = f"In comparison with the study of ___, the lungs are clear. Mild {SENTINEL} in the left base is unchanged."
PROMPTS = [
    MARKED,
    "",
    f"Heart size is normal. No {SENTINEL}.",
    MARKED,
    "As compared to the previous radiograph of ___, there is no change. Stable cardiomegaly with a small effusion.",
    "Since ___, edema is less. The hila are normal in size, and the bony thorax is intact.",
]
COLUMNS = ["row", "kind", "score", "difference", "words_changed"]
MARKER_KINDS = {"removed", "random_word", "random_number", "moved", "sanitized", "placebo"}


@pytest.fixture(autouse=True)
def key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRGUARD_KEY_FILE", str(tmp_path_factory.getbasetemp() / "key"))


def sensitivity(model: Path, prompts: Path, out: Path, *more: object) -> Result:
    arguments = ["--model", model, "--prompts", prompts, "--out", out, "--seeds", 1, *more]
    return CliRunner().invoke(app, ["sensitivity", *map(str, arguments)])


def table(folder: Path, prompts: list[str], column: str = "prompt") -> Path:
    path = folder / "p.jsonl"
    path.write_text("".join(json.dumps({column: prompt}) + "\n" for prompt in prompts))
    return path


@pytest.mark.parametrize("which", ["pipeline_dir", "v_pipeline_dir"])
def test_the_contract(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source, out, told = request.getfixturevalue(which), tmp_path / "out.csv", tmp_path / "told.json"
    done = sensitivity(source, table(tmp_path, PROMPTS), out, "--seed", 3, "--batch-size", 2, "--show-prompts", "--summary", told)
    assert done.exit_code == 0, done.output
    assert (
        "6 rows; 4 different prompts, 3 of them with a marker." in done.output and "Rows with an empty prompt (left out): 1." in done.output
    )
    assert SENTINEL not in done.output + told.read_text()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (out, told)} == {0o600}
    found = pd.read_csv(out)
    assert list(found) == [*COLUMNS, "text"]
    by_row = {int(row): part.set_index("kind") for row, part in found.groupby("row")}
    assert list(by_row) == [1, 3, 4, 5, 6]
    pd.testing.assert_frame_equal(by_row[1].drop(columns="row"), by_row[4].drop(columns="row"))
    assert set(by_row[3].index) == {"original", "paraphrased"} and set(by_row[1].index) >= MARKER_KINDS

    first = by_row[1]
    assert first.loc["original", "text"] == MARKED and first.loc["original", "difference"] == 0
    assert first.loc["removed", "text"] == MARKED.replace(" ___", "") and first.loc["removed", "words_changed"] == 1
    assert "___" not in first.loc["sanitized", "text"] and "___" in first.loc["placebo", "text"]
    model = ScoringModel(str(source))
    lengths = {kind: len(model.parts.tokenizer(first.loc[kind, "text"]).input_ids) for kind in ("original", "sanitized", "placebo")}
    assert lengths["placebo"] == lengths["sanitized"] < lengths["original"]
    probe = TextNoiseNorm(steps=1, seeds=1)
    for row, prompt in ((1, MARKED), (3, PROMPTS[2]), (5, PROMPTS[4])):
        for kind, line in by_row[row].iterrows():  # one wording at a time, under the original's noise
            alone = probe(model.denoiser, model.batch([line["text"]], 3, noise_of=prompt)).item()
            assert line["score"] == pytest.approx(alone, rel=1e-4), kind
            assert line["difference"] == pytest.approx(line["score"] - by_row[row].loc["original", "score"], abs=1e-12)

    summary = json.loads(told.read_text())
    assert summary["prompts"] == {"rows": 6, "different": 4, "empty": 1, "marked": 3, "cut": 0}
    assert (summary["detector"], summary["direction"], summary["evals_per_scoring"]) == ("text_noise_norm", "higher", 2)
    once = found[found["row"] != 4]
    for kind, entry in summary["edits"].items():
        rows = once[once["kind"] == kind]
        assert entry["n"] == len(rows)
        if len(rows) > 1:
            assert entry["mean"] == pytest.approx(rows["difference"].mean())
            assert entry["words_changed"] == pytest.approx(rows["words_changed"].mean())
            assert entry["ci"][0] < entry["mean"] < entry["ci"][1]
    test = summary["marker_test"]
    whole = [part for row, part in by_row.items() if row != 4 and {"sanitized", "placebo"} <= set(part.index)]
    assert test["marker"]["n"] == len(whole) > 1 and test["n_without_placebo"] == 3 - len(whole)
    gaps = [part.loc["sanitized", "score"] - part.loc["placebo", "score"] for part in whole]
    assert test["marker"]["mean"] == pytest.approx(np.mean(gaps))
    assert test["marker"]["mean"] == pytest.approx(test["sanitized"]["mean"] - test["placebo"]["mean"])


def test_without_text_and_the_summary_on_stderr(pipeline_dir: Path, tmp_path: Path) -> None:
    prompts = table(tmp_path, [MARKED, "clear " * 90], "report")
    done = sensitivity(pipeline_dir, prompts, tmp_path / "out.parquet", "--prompt-column", "report")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stderr)
    assert summary["prompts"]["cut"] == 1 and not set(summary["edits"]) & {"adversarial_raise", "adversarial_lower"}
    for entry in (summary["edits"]["removed"], summary["marker_test"]["marker"]):
        assert entry["mean"] is None and "two pairs are needed; there is 1" in entry["reason"]
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert list(found) == COLUMNS
    assert SENTINEL.encode() not in (tmp_path / "out.parquet").read_bytes() and SENTINEL not in done.output
    again = sensitivity(pipeline_dir, prompts, tmp_path / "again.parquet", "--prompt-column", "report", "--batch-size", 5, "--quiet")
    assert (again.exit_code, again.output) == (0, "")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "again.parquet"), found, rtol=1e-4)


def test_rows_that_bring_no_new_prompt(pipeline_dir: Path, tmp_path: Path) -> None:
    """A batch of repeats and empty prompts has nothing to score."""
    prompts = table(tmp_path, ["Clear lungs.", "Clear lungs.", "", " ", "Clear lungs."])
    done = sensitivity(pipeline_dir, prompts, tmp_path / "out.csv", "--batch-size", 1)
    assert done.exit_code == 0, done.output
    found = pd.read_csv(tmp_path / "out.csv")
    assert found["row"].unique().tolist() == [1, 2, 5] and found.groupby("kind")["score"].nunique().eq(1).all()


def test_adversarial_words(pipeline_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = sensitivity(pipeline_dir, table(tmp_path, ["Clear lungs.", MARKED]), out, "--adversarial", 24, "--show-prompts")
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    for row, prompt in ((1, "Clear lungs."), (2, MARKED)):
        kinds = {r["kind"]: r for r in rows if r["row"] == row}
        assert kinds["adversarial_raise"]["difference"] >= 0 >= kinds["adversarial_lower"]["difference"]
        for kind in ("adversarial_raise", "adversarial_lower"):
            assert kinds[kind]["words_changed"] == words_changed(prompt, kinds[kind]["text"])
            assert (kinds[kind]["difference"] == 0) == (kinds[kind]["words_changed"] == 0)
    assert {r["kind"] for r in rows if r["words_changed"] and r["kind"].startswith("adv")} == {"adversarial_raise", "adversarial_lower"}
    assert json.loads(done.stderr)["edits"]["adversarial_raise"]["n"] == 2
    nothing = sensitivity(pipeline_dir, table(tmp_path, ["Clear lungs."]), out, "--adversarial", 1, "--show-prompts")  # the prompt itself
    assert nothing.exit_code == 0, nothing.output
    raised = [json.loads(line) for line in out.read_text().splitlines()][-1]
    assert (raised["text"], raised["difference"], raised["words_changed"]) == ("Clear lungs.", 0, 0)


def test_detectors_and_base(pipeline_dir: Path, tmp_path: Path) -> None:
    prompts = table(tmp_path, PROMPTS)
    lower = sensitivity(pipeline_dir, prompts, tmp_path / "a.csv", "--detector", "cross_attention_entropy")
    assert lower.exit_code == 0, lower.output
    assert json.loads(lower.stderr)["direction"] == "higher"
    gap = sensitivity(pipeline_dir, prompts, tmp_path / "b.csv", "--detector", "base_noise_gap", "--base", pipeline_dir)
    assert gap.exit_code == 0, gap.output
    assert (pd.read_csv(tmp_path / "b.csv")["score"] == 0).all()  # the model is its own base
    assert "all differences are the same" in json.loads(gap.stderr)["marker_test"]["marker"]["reason"]
    plain, rms = (
        sensitivity(pipeline_dir, prompts, tmp_path / f"{d}.csv", "--detector", d) for d in ("text_noise_norm", "text_noise_norm_rms")
    )
    assert plain.exit_code == rms.exit_code == 0
    ratio = pd.read_csv(tmp_path / "text_noise_norm.csv")["score"] / pd.read_csv(tmp_path / "text_noise_norm_rms.csv")["score"]
    assert ratio.tolist() == pytest.approx([16.0] * len(ratio))  # 4 x 8 x 8 values


def test_a_prompt_hangs_on_no_other(pipeline_dir: Path) -> None:
    model = ScoringModel(str(pipeline_dir))

    def probe(batch_size: int) -> SensitivityProbe:
        return SensitivityProbe(model, NoiseKeyedScorer(model, "text_noise_norm", Draws(1, 1), 0, batch_size), 0)

    prompts = [PROMPTS[0], PROMPTS[2], PROMPTS[4]]
    for together, prompt in zip(probe(64)(prompts), prompts, strict=True):
        (alone,) = probe(1)([prompt])
        assert [w.text for w in together.wordings] == [w.text for w in alone.wordings]
        assert [w.score for w in together.wordings] == pytest.approx([w.score for w in alone.wordings], rel=1e-4)
        assert SENTINEL not in repr(together)


def test_help_has_examples() -> None:
    done = CliRunner().invoke(app, ["sensitivity", "--help"])
    assert done.exit_code == 0 and "Examples:\n" in done.stdout and "--adversarial" in done.stdout


def test_the_vocabulary_is_of_single_words_and_no_patient() -> None:
    assert len(VOCABULARY) > 80 and all(word.isalpha() and word.islower() for word in VOCABULARY)


@pytest.mark.parametrize(
    ("after", "n"),
    [("a b c", 0), ("a, b. c", 0), ("a c", 1), ("a x c", 1), ("b c a", 2), ("x y z w", 4), ("", 3), (cut_out("a b c", [(2, 3)]), 1)],
)
def test_words_changed(after: str, n: int) -> None:
    assert words_changed("a b c", after) == n


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--detector", "nonsense"], 2, "Unknown detector 'nonsense'"),
        (["--detector", "base_noise_gap"], 2, "Give it with --base DIR"),
        (["--detector", "noise_consistency"], 2, "cannot be had with --steps 1 --seeds 1"),
        (["--summary", "out.csv"], 2, "are the same file"),
        (["--summary", "."], 2, "is a directory"),
        (["--out", "-", "--summary", "-"], 2, "are the same file"),
        (["--adversarial", "-1"], 2, "--adversarial"),
        (["--prompt-column", "text"], 1, "missing column 'text'"),
        (["--model", "nowhere"], 1, "no such directory; --model takes a diffusers pipeline directory"),
        (["--prompts", "nowhere.csv"], 2, "does not exist"),
    ],
)
def test_bad_input(
    arguments: list[str], status: int, message: str, pipeline_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prompts = table(tmp_path, PROMPTS)
    done = sensitivity(pipeline_dir, prompts, Path("out.csv"), *arguments)
    assert done.exit_code == status, done.output
    assert message in " ".join(done.output.replace("│", " ").split())
    assert SENTINEL not in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["p.jsonl"]


def test_as_a_process(pipeline_dir: Path, tmp_path: Path) -> None:
    options = ["--model", str(pipeline_dir), "--prompts", "-", "--out", "-", "--seeds", "1"]
    command = [sys.executable, "-m", "cxrguard.cli", "sensitivity", *options]
    given = (json.dumps({"prompt": MARKED}) + "\n").encode()
    done = subprocess.run(command, input=given, capture_output=True, timeout=200, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["kind"] for row in rows} >= MARKER_KINDS and list(rows[0]) == COLUMNS
    assert json.loads(done.stderr)["prompts"]["rows"] == 1
    assert list(tmp_path.iterdir()) == []
