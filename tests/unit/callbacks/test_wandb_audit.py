"""What W&B gets of an audit, read back from the offline run's own records: figures and shared words, no prompt, no protected picture."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from callbacks.final_metrics import final_metrics
from callbacks.wandb_audit import Uploads, log_audit
from callbacks.wandb_logger import build_wandb_logger, finish_wandb
from cxrguard.audit.record import PROMPTS
from cxrguard.audit.report import write_report

TESTS = Path(__file__).resolve().parents[2]
FAKE = runpy.run_path(str(TESTS / "unit" / "audit" / "fake_audit.py"))
RECORDS = runpy.run_path(str(TESTS / "integration" / "wandb_records.py"))
LIKE_A_NUMBER = "47060851e92"  # a pseudonym, and 4.7e99 to whoever reads it as a number
SENTINEL = "Sentinel cough of nobody else"


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, dict[str, Any]]]:
    """A run whose local report shows prompts and that uploads pictures; its directory, the offline records' and the staged files'."""
    folder = tmp_path_factory.mktemp("wandb_audit")
    patch = pytest.MonkeyPatch()
    for name in ("DATA_DIR", "CACHE_DIR", "CONFIG_DIR"):
        patch.setenv(f"WANDB_{name}", str(folder / name))
    audit = FAKE["fake_audit"]()
    run_dir = FAKE["write_run"](folder / "run", audit)
    header = "hash,patient,group,repeats,replays_own,replays_any,arm,text_noise_norm\n"
    rows = "".join(f"{s['hash']},p,canaries,{s['repeats']},1,1,,0.5\n" for s in audit["strips"] if s["group"] == "canary")
    (run_dir / "scores.csv").write_text(header + rows + f"{LIKE_A_NUMBER},p,canaries,4,0,0,,\n")
    (run_dir / "MODEL_CARD.md").write_text("card")
    shown = {"strips": {audit["strips"][0]["hash"]: [SENTINEL, SENTINEL]}, "sanitizer": [[SENTINEL, ""]]}
    (run_dir / PROMPTS).write_text(json.dumps(shown))
    assert SENTINEL in write_report(run_dir).read_text()
    logger = build_wandb_logger(project="p", offline=True, name=None, save_dir=str(run_dir))
    logger.log_metrics({k: v for k, v in final_metrics(audit).items() if v is not None}, step=audit["steps"])
    log_audit([logger], run_dir, audit, Uploads(images=True))
    finish_wandb()
    yield folder, run_dir, audit
    patch.undo()


def history(run_dir: Path) -> dict[str, Any]:
    (directory,) = (run_dir / "wandb").glob("offline-run-*")
    items = [item for r in RECORDS["records"](directory) if r.WhichOneof("record_type") == "history" for item in r.history.item]
    return {item.key or item.nested_key[0]: item.value_json for item in items}


def tables(folder: Path) -> dict[str, Any]:
    found = [json.loads(path.read_text()) for path in folder.rglob("*.table.json")]
    return {",".join(table["columns"]): table["data"] for table in found}


def test_words_and_counts_are_there(logged: tuple[Path, Path, dict[str, Any]]) -> None:
    folder, run_dir, audit = logged
    said = history(run_dir)
    assert {"canaries", "guard/actions", "words"} <= set(said)
    words = next(data for columns, data in tables(folder).items() if columns.startswith("rank,word"))
    assert [row[1] for row in words] == [row["word"] for row in audit["words"]["top"]]
    assert float(said["final/sanitizer/edited"]) == audit["sanitizer"]["edited"]
    assert float(said["final/extraction_rate/repeats_15"]) == pytest.approx(0.9167)
    bits = audit["detectors"]["denoising_loss"]["by_repeats"][1]["exposure"]
    assert float(said["final/exposure/denoising_loss/repeats_15"]) == pytest.approx(bits)
    tpr = audit["detectors"]["text_noise_norm"]["tpr_at_1pct_fpr"]
    assert float(said["final/tpr_at_1pct_fpr/text_noise_norm"]) == pytest.approx(tpr)


def test_no_prompt_leaves_though_the_local_report_shows_some(logged: tuple[Path, Path, dict[str, Any]]) -> None:
    folder, run_dir, _ = logged
    local = {run_dir / "report.html", run_dir / PROMPTS}
    sent = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path not in local}
    pages = [path for path in sent if b"Memorization audit" in sent[path] and b"<html" in sent[path]]
    assert pages, "the report goes up with upload_images, without prompts"
    assert [path for path, content in sent.items() if SENTINEL.encode() in content] == []


def test_a_pseudonym_that_looks_like_a_number_stays_text(logged: tuple[Path, Path, dict[str, Any]]) -> None:
    folder, _, _ = logged
    canaries = next(data for columns, data in tables(folder).items() if columns.startswith("hash,"))
    assert canaries[-1][0] == LIKE_A_NUMBER and canaries[-1][-2] is None and all(isinstance(row[0], str) for row in canaries)
