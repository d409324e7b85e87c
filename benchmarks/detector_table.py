"""The detectors of a run as a Markdown table, judged from its ``scores.csv`` as its audit does.

python benchmarks/detector_table.py RUN_DIR
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cxrguard.audit.detectors import Scored, describe
from cxrguard.audit.judge_detectors import CONTROLS, by_patient
from cxrguard.audit.score_table import ScoreTable, read_scores
from cxrguard.probes.replication import DIRECTIONS, evals_per_prompt


def figure(value: float | None, percent: bool = False) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.0f} %" if percent else f"{value:.2f}"


def interval(ends: list[float] | None, percent: bool = False) -> str:
    return "–" if ends is None else f"{figure(ends[0], percent)} to {figure(ends[1], percent)}"


def detectors(config: DictConfig) -> list[Any]:
    """Name, direction and cost of what the run's configuration asks for."""
    found = [instantiate(probe) for probe in config.probe.values() if probe]
    cost = evals_per_prompt(config.sampling.steps, config.sampling.samples_per_prompt_replication)
    return found + [SimpleNamespace(name=name, direction=way, evals_per_prompt=cost) for name, way in DIRECTIONS.items()]


def judged(table: ScoreTable, detector: Any, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """(extracted canaries, members) against the controls that replay nothing."""
    groups, patients = np.asarray(table.groups), np.asarray(table.patients, dtype=object)
    scores, asked = table.scores[detector.name], table.asked[detector.name]

    def chosen(mask: np.ndarray) -> Scored:
        return Scored.of(scores[mask & asked], list(patients[mask & asked]))

    quiet = chosen(np.isin(groups, CONTROLS) & ~table.any)
    member = groups == "members"
    entries = [
        describe(positives, quiet, detector.direction, detector.evals_per_prompt, seed)
        for positives in (chosen((groups == "canaries") & table.own), by_patient(scores[member], list(patients[member])))
    ]
    return entries[0], entries[1]


def row(detector: Any, entry: dict[str, Any], member: dict[str, Any]) -> str:
    cells = [
        f"`{detector.name}`",
        str(detector.evals_per_prompt) + (" + image" if getattr(detector, "needs_images", False) else ""),
        figure(entry["auc"]),
        interval(entry["auc_ci"]),
        figure(entry["tpr_at_1pct_fpr"], True),
        interval(entry.get("tpr_at_1pct_fpr_ci"), True),
        "yes" if entry["trusted"] else "no",
        figure(member["auc"]),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    run = Path(sys.argv[1])
    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert isinstance(config, DictConfig)
    table = read_scores(run)
    asked = [d for d in detectors(config) if d.name in table.scores]
    results = [(d, *judged(table, d, int(config.seed))) for d in asked]
    groups = np.asarray(table.groups)
    canaries, controls = groups == "canaries", np.isin(groups, CONTROLS)
    print(f"{int(table.own[canaries].sum())} of {int(canaries.sum())} canaries extracted, against ", end="")
    print(f"{int((controls & ~table.any).sum())} of {int(controls.sum())} controls that replay nothing\n")
    print("| detector | evaluations | AUC | 95 % interval | TPR at 1 % FPR | 95 % interval | trusted | AUC of members |")
    print("|---|---|---|---|---|---|---|---|")
    for detector, entry, member in sorted(results, key=lambda r: -(r[1]["auc"] or 0)):
        print(row(detector, entry, member))


if __name__ == "__main__":
    main()
