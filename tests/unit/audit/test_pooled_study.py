"""Arms that differ only in their seed are pooled in ``study.json`` and on its page."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrguard.audit.pooled import pool
from cxrguard.audit.score_table import COLUMNS, NAME, read_scores
from cxrguard.audit.study import collect_study, write_study

Audit = dict[str, Any]
DETECTORS = ("text_noise_norm", "denoising_loss")


def write_table(run_dir: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = [",".join([*COLUMNS, *DETECTORS])]
    for name, n in (("canaries", 20), ("controls", 60), ("members", 5), ("prompt_controls", 80)):
        for i in range(n):
            hit = int(name == "canaries" and i > 3)
            scores = [str(rng.normal(2 * hit, 1)), "" if name == "prompt_controls" else str(rng.normal(-2 * hit, 1))]
            lines.append(",".join([f"{seed}{name}{i}", f"p{name}{i}", name, "8", str(hit), str(hit), *scores]))
    (run_dir / NAME).write_text("\n".join(lines) + "\n")


@pytest.fixture
def sweep(tmp_path: Path, audit: Audit, write_run: Callable[..., Path]) -> Path:
    """Two settings with three and two seeds, one of which was run twice."""
    root = tmp_path / "study"
    arms = [("guard=off", 0), ("guard=off", 1), ("guard=off", 2), ("guard=on", 0), ("guard=on", 1), ("guard=on", 1)]
    for number, (override, seed) in enumerate(arms):
        run_dir = write_run(root / str(number), copy.deepcopy(audit) | {"seed": seed}, {"status": "done", "error": None, "seed": seed})
        (run_dir / ".hydra" / "overrides.yaml").write_text(f"- seed={seed}\n- {override}\n")
        write_table(run_dir, number)
    return root


def test_seeds_of_the_same_settings_are_pooled(sweep: Path) -> None:
    pooled = collect_study(sweep)["pooled"]
    assert [(group["overrides"], group["seeds"], group["dirs"]) for group in pooled] == [
        (["guard=off"], [0, 1, 2], ["0", "1", "2"]),
        (["guard=on"], [0, 1], ["3", "4"]),
    ]
    for group in pooled:
        tables = [read_scores(sweep / name) for name in group["dirs"]]
        assert group["detectors"] == pool(tables, {"text_noise_norm": "higher", "denoising_loss": "lower"}) and group["reason"] is None
        assert group["detectors"]["text_noise_norm"]["n_positives"] == 16 * len(tables)
        assert group["detectors"]["text_noise_norm"]["n_negatives"] == 140 * len(tables)
        assert group["detectors"]["denoising_loss"]["n_negatives"] == 60 * len(tables)
        assert group["detectors"]["denoising_loss"]["auc"] > 0.85
    assert json.loads((sweep / "study.json").read_text())["pooled"] == pooled


def test_one_seed_is_not_pooled(tmp_path: Path, audit: Audit, write_run: Callable[..., Path]) -> None:
    for number, override in enumerate(("a=1", "a=2")):
        run_dir = write_run(tmp_path / "study" / str(number), copy.deepcopy(audit), {"status": "done", "error": None, "seed": 0})
        (run_dir / ".hydra" / "overrides.yaml").write_text(f"- {override}\n")
        write_table(run_dir, number)
    assert "pooled" not in collect_study(tmp_path / "study")
    assert "Pooled" not in write_study(tmp_path / "study").read_text()


def test_a_missing_table_is_told(sweep: Path) -> None:
    (sweep / "1" / NAME).unlink()
    (sweep / "4" / NAME).write_text("not a table")
    pooled = collect_study(sweep)["pooled"]
    assert [group["detectors"] for group in pooled] == [{}, {}]
    assert all("scores.csv" in group["reason"] and str(sweep) not in group["reason"] for group in pooled)
    assert "scores.csv in 1 cannot be read" in write_study(sweep).read_text()


def test_the_page_shows_the_pooled_figures(sweep: Path) -> None:
    text = write_study(sweep).read_text()
    detectors = collect_study(sweep)["pooled"][0]["detectors"]
    assert "Pooled over 3 seeds" in text and "Pooled over 2 seeds" in text
    assert f'<data value="{detectors["text_noise_norm"]["auc"]}" data-key="detectors.text_noise_norm.auc">' in text
    assert "1,000 controls that do not replay in each run" in text  # the reason of a null, as a note
    assert 'data-key="forecast.levels.2.coverage">100.0' in text and "no run has canaries of this level and an interval" in text


def test_seeds_that_forecast_nothing_are_pooled_too(sweep: Path) -> None:
    for path in sweep.glob("*/audit.json"):
        audit = json.loads(path.read_text())
        path.write_text(json.dumps(audit | {"forecast": {"slope": None, "levels": [], "reason": "one level of repeats"}}))
    pooled = collect_study(sweep)["pooled"]
    assert all("forecast" not in group for group in pooled)
    assert "Pooled over 3 seeds" in write_study(sweep).read_text()
