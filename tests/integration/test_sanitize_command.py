"""``cxrguard sanitize`` as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cxrguard.cli import app
from cxrguard.sanitizer.pipeline import Sanitized, TextSanitizer

SENTINEL = "zyxomatosis"
ROWS = [
    ("1", f"In comparison with the study of ___, there is {SENTINEL}. No pneumothorax."),
    ("2", f"Clear lungs without {SENTINEL}."),
    ("3", "___"),
    ("4", ""),
    ("5", f"{SENTINEL} is seen. Seen by Dr. XXXX XXXX."),
    ("6", f"No ___. Pneumothorax on the left, {SENTINEL}, \"quoted\",\nand a second line."),
]  # fmt: skip
COMMAND = [sys.executable, "-m", "cxrguard.cli", "sanitize"]


def run(*arguments: object, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *map(str, arguments)], input=given, capture_output=True, timeout=120)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "reports.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("study_id", "text"), *ROWS])
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_contract(table: Path, tmp_path: Path) -> None:
    out, edits, summary = tmp_path / "out.csv", tmp_path / "edits.jsonl", tmp_path / "summary.json"
    done = run(table, out, "--edits", edits, "--summary", summary)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    rows = read_csv(out)
    assert list(rows[0]) == ["study_id", "text", "sanitized", "n_edits", "status"]
    assert [(row["study_id"], row["text"]) for row in rows] == ROWS
    assert [row["status"] for row in rows[:5]] == ["edited", "unchanged", "emptied", "unchanged", "edited"]
    assert rows[1]["sanitized"] == ROWS[1][1]
    assert rows[2]["sanitized"] == rows[3]["sanitized"] == ""
    assert SENTINEL in rows[0]["sanitized"]
    assert "No pneumothorax." in rows[0]["sanitized"]
    assert not any("__" in row["sanitized"] or "XXXX" in row["sanitized"] for row in rows)
    assert [mode(path) for path in (out, edits, summary)] == [0o600] * 3
    written = [json.loads(line) for line in edits.read_text().splitlines()]
    assert all(list(edit) == ["row", "rule", "action", "start", "end"] for edit in written)
    assert [sum(edit["row"] == i for edit in written) for i in range(1, 7)] == [int(row["n_edits"]) for row in rows]
    assert all(0 <= edit["start"] <= edit["end"] <= len(ROWS[edit["row"] - 1][1]) for edit in written)
    told = json.loads(summary.read_text())
    assert told["prompts"] == 6
    assert told["unchanged"] + told["edited"] + told["emptied"] + told["refused"] == 6
    assert (told["residual_markers"], told["edits"]) == (0, len(written))
    assert told["by_convention"]["mimic_cxr"] == 3
    assert told["by_convention"]["open_i"] >= 1
    assert b"6 prompts: 2 unchanged" in done.stderr
    for leak in (done.stderr, edits.read_bytes(), summary.read_bytes()):
        assert SENTINEL.encode() not in leak.lower()


def test_quiet_and_edits_as_csv(table: Path, tmp_path: Path) -> None:
    done = run(table, tmp_path / "out.jsonl", "--edits", tmp_path / "edits.csv", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert list(read_csv(tmp_path / "edits.csv")[0]) == ["row", "rule", "action", "start", "end"]
    assert [json.loads(line)["study_id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == list("123456")


def test_standard_input_and_output() -> None:
    given = b'{"prompt": "No ___. Pneumothorax on the left."}\n{"prompt": "Clear."}\n'
    done = run("-", "-", "--text-column", "prompt", given=given)
    first, second = map(json.loads, done.stdout.splitlines())
    assert "no pneumothorax" not in first["sanitized"].lower()
    assert (second["sanitized"], second["n_edits"], second["status"]) == ("Clear.", 0, "unchanged")
    assert b"2 prompts" in done.stderr
    broken = run("-", "-", "--text-column", "prompt", given=given + b"{")
    assert (broken.returncode, broken.stdout) == (1, b"")
    assert b"standard input: line 3 is not valid JSON" in broken.stderr


def test_workers_give_the_same_bytes(tmp_path: Path) -> None:
    with (tmp_path / "in.jsonl").open("w") as file:
        for i in range(1700):
            file.write(json.dumps({"i": i, "text": ROWS[i % len(ROWS)][1] + f" Nodule of {i} mm."}) + "\n")
    written = []
    for workers in (1, 2):
        out, edits, summary = (tmp_path / f"{name}{workers}.jsonl" for name in ("out", "edits", "summary"))
        assert run(tmp_path / "in.jsonl", out, "--edits", edits, "--summary", summary, "--workers", workers).returncode == 0
        written.append((out.read_bytes(), edits.read_bytes(), summary.read_bytes()))
    assert written[0] == written[1]
    assert written[0][0].count(b"\n") == 1700


def _broken(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_broken("a.csv", b"id,impression\n1,zyxomatosis\n"), "missing column 'text'. Columns found: 'id', 'impression'"),
        (_broken("a.csv", b"id,text\n1,fine ___\n2,zyxomatosis,\n"), "row 2 (ends on line 3) has 3 fields"),
        (_broken("a.csv", b"id,text\n1,zyxomatosis\xff\n"), "line 2 is not UTF-8"),
        (_broken("a.jsonl", b'{"text": "___"}\n{"text": "zyxomatosis"\n'), "line 2 is not valid JSON"),
        (_broken("a.jsonl", b'{"text": "___"}\n{"text": 17}\n'), "row 2: column 'text' holds a number"),
        (_broken("a.csv", b"text,status\nzyxomatosis,\n"), "a column 'status' already"),
        (_broken("a.parquet", b"zyxomatosis"), "not a readable Parquet file"),
        (_broken("a.csv.gz", b"zyxomatosis"), "cannot be read"),
    ],
)
def test_bad_input_writes_nothing(tmp_path: Path, write: Callable[[Path], Path], message: str) -> None:
    source = write(tmp_path)
    out, edits = tmp_path / "out.jsonl", tmp_path / "edits.jsonl"
    out.write_text("old")
    done = run(source, out, "--edits", edits, "--summary", tmp_path / "summary.json")
    assert done.returncode == 1
    assert message in done.stderr.decode()
    assert str(source) in done.stderr.decode()
    assert done.stderr.startswith(b"Error: ")
    assert done.stderr.count(b"\n") == 1
    assert SENTINEL.encode() not in done.stderr
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, "out.jsonl"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{in}", "{in}"], "same file"),
        (["{in}", "{link}"], "same file"),
        (["{in}", "out.csv", "--edits", "{in}"], "ends in|same file"),
        (["{in}", "out.jsonl", "--edits", "out.jsonl"], "same file"),
        (["{in}", "out.xlsx"], "ending"),
        (["{in}", "out.csv", "--edits", "edits.txt"], "ends in"),
        (["{in}", "out.csv", "--action", "nonsense"], "known are"),
        (["{in}", "out.csv", "--convention", "nonsense"], "nonsense"),
        (["{in}", "out.csv", "--workers", "0"], "workers"),
        (["absent.csv", "out.csv"], "does not exist"),
        (["{in}"], "Missing argument"),
    ],
)
def test_wrong_use_is_two(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    os.link(table, tmp_path / "link.csv")
    before = table.read_bytes()
    names = {"in": str(table), "link": "link.csv"}
    result = CliRunner().invoke(app, ["sanitize", *(argument.format(**names) for argument in arguments)])
    assert result.exit_code == 2
    assert any(part in result.stderr.replace("\n", " ") for part in message.split("|")), result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.csv", "reports.csv"]
    assert table.read_bytes() == before


def test_refused_prompts_can_fail_the_run(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextSanitizer, "sanitize", lambda self, text: Sanitized("", "refused" if "__" in text else "unchanged"))
    out = tmp_path / "out.csv"
    arguments = ["sanitize", str(table), str(out), "--edits", str(tmp_path / "e.jsonl")]
    result = CliRunner().invoke(app, [*arguments, "--on-refused", "raise"])
    assert result.exit_code == 1
    assert "3 of 6 prompts" in result.stderr
    assert "row 1, 3, 6" in result.stderr
    assert list(tmp_path.iterdir()) == [table]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert [row["sanitized"] for row in read_csv(out) if row["status"] == "refused"] == [""] * 3


def test_a_marker_that_is_left_writes_nothing(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextSanitizer, "sanitize", lambda self, text: Sanitized(text, "edited"))
    result = CliRunner().invoke(app, ["sanitize", str(table), str(tmp_path / "out.csv")])
    assert result.exit_code == 1
    assert "Row 1: 1 marker(s) left" in result.stderr
    assert SENTINEL not in result.output
    assert list(tmp_path.iterdir()) == [table]


def test_a_second_pass_needs_overwrite(table: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "1.csv", tmp_path / "2.csv"
    assert run(table, first).returncode == 0
    assert run(first, second).returncode == 1
    assert run(first, second, "--overwrite").returncode == 0
    assert first.read_bytes() == second.read_bytes()


def test_a_convention_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "name: own\ndescription: Percent signs.\nmarkers: ['%{3,}']\n"
        "examples:\n- {before: 'No change since %%%.', after: 'No change.'}\n"
    )  # fmt: skip
    (tmp_path / "in.txt").write_text("Clear lungs. Seen by %%%.\nSeen ___.\n")
    done = run(tmp_path / "in.txt", tmp_path / "out.txt", "--convention", tmp_path / "own.yaml", "--summary", tmp_path / "s.json")
    assert done.returncode == 0, done.stderr
    first, second = (tmp_path / "out.txt").read_text().splitlines()
    assert "%%%" not in first
    assert second == "Seen ___."
    assert json.loads((tmp_path / "s.json").read_text())["by_convention"] == {"own": 1}


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".txt"])
@pytest.mark.parametrize("text", ["_" * 1_000_000, "[**" * 333_333, "[" * 500_000 + "]" * 500_000])
def test_hostile_cells_take_seconds(tmp_path: Path, ending: str, text: str) -> None:
    path = tmp_path / f"in{ending}"
    path.write_text({".csv": f"text\n{text}\n", ".jsonl": json.dumps({"text": text}) + "\n", ".txt": text + "\n"}[ending])
    start = time.perf_counter()
    done = run(path, tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < 10
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert "__" not in row["sanitized"]
    assert "[**" not in row["sanitized"]


PEAK = """
import sys
from cxrguard.cli import app
try:
    app(sys.argv[1:])
finally:
    # Not ru_maxrss: that is inherited from the process that started this one.
    print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_memory_does_not_grow_with_rows(tmp_path: Path, ending: str) -> None:
    peaks = []
    for n in (3_000, 300_000):
        path = tmp_path / f"in{ending}"
        with path.open("w") as file:
            file.write("id,text\n" if ending == ".csv" else "")
            file.writelines(f"{i},Clear.\n" if ending == ".csv" else f'{{"id": {i}, "text": "Clear."}}\n' for i in range(n))
        arguments = ["sanitize", str(path), str(tmp_path / f"out{ending}"), "--edits", str(tmp_path / "edits.jsonl"), "--quiet"]
        done = subprocess.run([sys.executable, "-c", PEAK, *arguments], capture_output=True, timeout=240)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
        assert sum(1 for _ in (tmp_path / f"out{ending}").open()) == n + (ending == ".csv")
    assert peaks[1] - peaks[0] < 4_000  # KiB; the rows alone are 4 MB of text, and objects several times that


def test_it_starts_without_what_is_heavy(table: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom cxrguard.cli import app\ntry:\n    app(sys.argv[1:])\nfinally:\n"
        "    print([m for m in ('torch', 'spacy', 'pandas', 'pyarrow', 'numpy', 'hydra') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, "sanitize", str(table), str(tmp_path / "out.csv")], capture_output=True, timeout=120)
    assert done.stdout == b"[]\n", done.stderr


def test_ended_by_a_batch_system(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with subprocess.Popen([*COMMAND, "-", str(out)], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as job:
        assert job.stdin is not None
        job.stdin.write(b'{"text": "zyxomatosis ___"}\n' * 600)
        job.stdin.flush()
        deadline = time.monotonic() + 60
        while not list(tmp_path.iterdir()) and job.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [mode(path) for path in tmp_path.iterdir()] == [0o600]
        job.send_signal(signal.SIGTERM)
        assert job.wait(60) == 128 + signal.SIGTERM
        assert job.stderr is not None
        assert SENTINEL.encode() not in job.stderr.read()
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written(table: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(table, tmp_path / "file" / "out.csv")
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: ")
    assert b"out.csv: cannot be written" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text((json.dumps({"text": "Clear lungs. " * 20}) + "\n") * 2000)
    with subprocess.Popen([*COMMAND, str(tmp_path / "in.jsonl"), "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as job:
        assert job.stdout is not None
        assert job.stderr is not None
        job.stdout.read(10)
        job.stdout.close()
        assert job.wait(60) == 1
        assert job.stderr.read() == b"Error: -: cannot be written (Broken pipe).\n"
