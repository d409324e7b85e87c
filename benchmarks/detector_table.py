"""The detectors of a run as a Markdown table: ``python benchmarks/detector_table.py RUN/audit.json``."""

from __future__ import annotations

import sys
from typing import Any

from cxrguard.audit.record import read_audit


def figure(value: float | None, percent: bool = False) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.0f} %" if percent else f"{value:.2f}"


def interval(ends: list[float] | None, percent: bool = False) -> str:
    return "–" if ends is None else f"{figure(ends[0], percent)} to {figure(ends[1], percent)}"


def row(name: str, entry: dict[str, Any], members: dict[str, Any]) -> str:
    cells = [
        f"`{name}`",
        str(entry["evals_per_prompt"]),
        figure(entry["auc"]),
        interval(entry["auc_ci"]),
        figure(entry["tpr_at_1pct_fpr"], True),
        interval(entry.get("tpr_at_1pct_fpr_ci"), True),
        "yes" if entry["trusted"] else "no",
        figure(entry["outcome"]["auc"]),
        figure(members["auc"]),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    audit = read_audit(sys.argv[1])
    print("| detector | evaluations | AUC | 95 % interval | TPR at 1 % FPR | 95 % interval | trusted | who replays anyone | members |")
    print("|---|---|---|---|---|---|---|---|---|")
    by_auc = sorted(audit["detectors"].items(), key=lambda item: -(item[1]["auc"] or 0))
    for name, entry in by_auc:
        print(row(name, entry, audit["members"]["detectors"][name]))


if __name__ == "__main__":
    main()
