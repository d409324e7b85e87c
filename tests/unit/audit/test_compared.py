"""Settings side by side over their seeds: shares, learning kept against the unguarded run, and the page."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrguard.audit.compared import compare, learning_kept
from cxrguard.audit.intervals import wilson
from cxrguard.audit.score_table import COLUMNS, NAME
from cxrguard.audit.shares import Hits, pooled_share
from cxrguard.audit.study import collect_study, write_study
from cxrguard.audit.trade_off_chart import not_dominated, trade_off_chart

Audit = dict[str, Any]
EXTRACTED = {("off", 0): 18, ("off", 1): 16, ("enforce", 0): 0, ("enforce", 1): 1}


def write_table(run_dir: Path, extracted: int) -> None:
    lines = [",".join([*COLUMNS, "text_noise_norm"])]
    for i in range(20):
        hit = int(i < extracted)
        lines.append(f"h{i},p{i},canaries,{8 if i % 2 else 2},{hit},{hit},1.0")
    lines += [f"c{i},q{i},controls,0,0,{int(i == 0)},0.5" for i in range(40)]
    (run_dir / NAME).write_text("\n".join(lines) + "\n")


def audit_of(audit: Audit, guard: str, seed: int, loss: float, seconds: float) -> Audit:
    found = copy.deepcopy(audit) | {"seed": seed}
    found["run"] |= {"guard": guard}
    found["run"]["data"] |= {"heldout": 10}
    found["fidelity"] = {
        "heldout_loss": loss,
        "heldout_loss_base": 1.0,
        "heldout_loss_curve": [
            {"step": 1, "heldout_loss": 0.4 + seed / 10, "images": 10},
            {"step": 2, "heldout_loss": 0.1, "images": 4},  # of some images only: another sample
        ],
    }
    found["seconds"] = found["seconds"] | {"total": seconds}
    return found


@pytest.fixture
def sweep(tmp_path: Path, audit: Audit, write_run: Callable[..., Path]) -> Path:
    root = tmp_path / "study"
    losses = {"off": 0.6, "enforce": 0.5}
    for number, ((guard, seed), extracted) in enumerate(EXTRACTED.items()):
        found = audit_of(audit, guard, seed, losses[guard], 100.0 if guard == "off" else 110.0)
        run_dir = write_run(root / str(number), found, {"status": "done", "error": None, "seed": seed})
        (run_dir / ".hydra" / "overrides.yaml").write_text(f"- seed={seed}\n- experiment=some\n- guard={guard}\n- cache.dir=/x/{number}\n")
        write_table(run_dir, extracted)
    return root


def test_settings_are_compared_over_their_seeds(sweep: Path) -> None:
    off, enforce = collect_study(sweep)["compared"]
    assert (off["label"], enforce["label"]) == ("guard=off", "guard=enforce")
    assert enforce["seeds"] == [0, 1] and enforce["dirs"] == ["2", "3"]
    assert (off["extraction"]["hits"], off["extraction"]["n"], off["extraction"]["rate"]) == (34, 40, 0.85)
    assert (enforce["extraction"]["hits"], enforce["extraction"]["n"]) == (1, 40)
    low, high = wilson(1, 40) or (0.0, 0.0)
    assert enforce["extraction"]["ci"][0] <= low and enforce["extraction"]["ci"][1] >= high
    assert [(row["repeats"], row["n"], row["hits"]) for row in off["by_repeats"]] == [(2, 20, 17), (8, 20, 17)]
    assert off["replays"]["controls"]["any"]["rate"] == 2 / 80 and off["replays"]["controls"]["own"]["rate"] == 0


def test_learning_and_time_are_held_against_the_unguarded_run_of_the_same_seed(sweep: Path) -> None:
    off, enforce = collect_study(sweep)["compared"]
    # seed 0: the unguarded run was at 0.4 at its best, seed 1: at 0.5; the round that looked at 4 images does not count
    assert enforce["learning_kept"]["by_seed"] == pytest.approx([0.5 / 0.6, 0.5 / 0.5])
    assert off["learning_kept"]["by_seed"] == pytest.approx([0.4 / 0.6, 0.4 / 0.5])
    assert enforce["learning_kept"]["mean"] == pytest.approx((0.5 / 0.6 + 1) / 2) and enforce["learning_kept"]["reason"] is None
    assert enforce["time_ratio"]["mean"] == pytest.approx(1.1) and off["time_ratio"]["mean"] == 1
    assert enforce["train_time_ratio"]["mean"] == 1 and enforce["train_time_ratio"]["by_seed"] == [1, 1]


def test_without_an_unguarded_run_there_is_no_learning_kept(sweep: Path, audit: Audit) -> None:
    arms = collect_study(sweep)["arms"]
    for arm in arms:
        arm["audit"]["run"]["guard"] = "sanitize"
    first = compare(arms, sweep)[0]
    assert first["learning_kept"]["mean"] is None and "guard=off" in first["learning_kept"]["reason"]


def test_an_unguarded_run_of_other_settings_is_no_reference(sweep: Path) -> None:
    arms = collect_study(sweep)["arms"]
    for arm in arms[2:]:
        arm["overrides"].append("trainer.max_steps=5")
    assert compare(arms, sweep)[1]["learning_kept"]["mean"] is None


def test_a_run_that_learned_nothing_is_no_measure(audit: Audit) -> None:
    off = audit_of(audit, "off", 0, 1.2, 1.0)
    off["fidelity"]["heldout_loss_curve"] = []
    assert learning_kept(audit_of(audit, "enforce", 0, 0.5, 1.0), off) is None


def test_one_setting_is_not_compared(sweep: Path) -> None:
    assert compare(collect_study(sweep)["arms"][:2], sweep) == []


def test_a_missing_table_is_told(sweep: Path) -> None:
    (sweep / "0" / NAME).unlink()
    off = collect_study(sweep)["compared"][0]
    assert off["extraction"]["rate"] is None and "scores.csv" in off["extraction"]["reason"]
    assert "scores.csv in 0 cannot be read" in write_study(sweep).read_text()


def test_the_page_shows_the_comparison(sweep: Path) -> None:
    text = write_study(sweep).read_text()
    rate = collect_study(sweep)["compared"][1]["extraction"]["rate"]
    assert "Compared over seeds" in text and f'<data value="{rate}" data-key="extraction.rate">' in text
    assert "What came back against what was learned" in text and "shown 2 ×" in text


def test_share_against_a_naive_bootstrap() -> None:
    rng = np.random.default_rng(3)
    runs = [Hits(rng.random(30) < p, [f"p{i // 2}" for i in range(30)]) for p in (0.1, 0.3, 0.8)]
    found = pooled_share(runs, n=4000)
    rates = []
    for _ in range(4000):
        hits = total = 0
        for run in (runs[i] for i in rng.integers(0, 3, size=3)):
            patients = [f"p{i}" for i in rng.integers(0, 15, size=15)]
            for patient in patients:
                rows = [i for i, of in enumerate(run.clusters) if of == patient]
                hits += int(run.happened[rows].sum())
                total += len(rows)
        rates.append(hits / total)
    assert found["ci"] == pytest.approx(list(np.percentile(rates, [2.5, 97.5])), abs=0.03)


def test_share_of_nothing_is_null() -> None:
    assert pooled_share([Hits(np.zeros(0, bool), [])]) == {"n": 0, "hits": 0, "rate": None, "ci": None}
    none = pooled_share([Hits(np.zeros(32, bool), [str(i) for i in range(32)]) for _ in range(3)])
    assert none["rate"] == 0 and none["ci"][0] == 0 and 0.03 < none["ci"][1] < 0.05


def test_points_that_no_other_beats() -> None:
    assert not_dominated([(1.0, 0.9), (0.9, 0.1), (0.8, 0.2), (0.5, 0.0)]) == [3, 1, 0]


def test_chart_needs_two_points(sweep: Path) -> None:
    compared = collect_study(sweep)["compared"]
    assert str(trade_off_chart(compared)).startswith("data:image/svg+xml") and trade_off_chart(compared[:1]) is None
