"""The closing table on the terminal."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

from rich.console import Console

from cxrguard.audit.summary import summary_table


def printed(audit: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(summary_table(audit, Path("run")))
    return out.getvalue()


def rows_of(text: str) -> dict[str, str]:
    cells = [[cell.strip() for cell in line.split("│")[1:3]] for line in text.splitlines() if line.count("│") == 3]
    return dict(cells)


def test_every_detector_with_what_it_finds_and_costs(audit: dict[str, Any]) -> None:
    audit["extraction"]["groups"]["controls"]["pixels"]["16"]["own"] = 0.0
    rows = rows_of(printed(audit))
    entry = audit["detectors"]["text_noise_norm"]
    assert rows["AUC text_noise_norm"].startswith(f"{entry['auc']:.2f} ({entry['auc_ci'][0]:.2f} to {entry['auc_ci'][1]:.2f})")
    assert f"TPR at 1 % FPR {entry['tpr_at_1pct_fpr']:.0%}, 2 evaluations, not trusted" in rows["AUC text_noise_norm"]
    assert rows["AUC denoising_loss"].endswith("16 evaluations, lowest repeats detected 15")
    assert rows["AUC token_attention"] == "– (no AUC: 0 positives (canaries that replay), 1043 controls that do not replay)"
    assert rows["prompt-only controls that do, 2 samples"] == "50 of 1000 (5%)"
    assert rows["controls that judge the detectors"] == "1043"


def test_without_prompt_only_controls(audit: dict[str, Any]) -> None:
    audit["extraction"]["groups"]["controls"]["pixels"]["16"]["own"] = 0.0
    without = copy.deepcopy(audit)
    del without["controls"]["prompt_only"]
    assert "prompt-only" in printed(audit) and "prompt-only" not in printed(without)
