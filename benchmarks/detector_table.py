"""The detectors of a run as a Markdown table, judged from its ``scores.csv`` as its audit does.

python benchmarks/detector_table.py RUN_DIR [--against DETECTOR]

With ``--against`` each detector's AUC less that one's on the same prompts follows, with a 95 % interval of patients resampled together.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cxrguard.audit.combination import combinations_of
from cxrguard.audit.detectors import Scored, describe
from cxrguard.audit.judge_detectors import CONTROLS, by_patient
from cxrguard.audit.resampling import cluster_ids, draw_clusters, percentiles, weighted_auc
from cxrguard.audit.score_table import ScoreTable, read_scores
from cxrguard.audit.statistics import oriented
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
    combined = combinations_of(config.get("combinations"), found)
    return [*found, *combined, *(SimpleNamespace(name=name, direction=way, evals_per_prompt=cost) for name, way in DIRECTIONS.items())]


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


def difference(table: ScoreTable, one: Any, other: Any, seed: int, n: int = 2000) -> tuple[float, tuple[float, float] | None]:
    """AUC of ``one`` less that of ``other``, paired, and its interval."""
    groups, patients = np.asarray(table.groups), np.asarray(table.patients, dtype=object)
    sides = ((groups == "canaries") & table.own, np.isin(groups, CONTROLS) & ~table.any)
    both = table.asked[one.name] & table.asked[other.name]
    pos, neg = (side & both & np.isfinite(table.scores[one.name]) & np.isfinite(table.scores[other.name]) for side in sides)
    ids, generator = [cluster_ids(list(patients[side])) for side in (pos, neg)], np.random.default_rng(seed)

    def figure(weights: list[Any]) -> Any:
        areas = [weighted_auc(*(oriented(table.scores[d.name][side], d.direction) for side in (pos, neg)), *weights) for d in (one, other)]
        return areas[0] - areas[1]

    def draw(size: int) -> Any:
        return figure([draw_clusters(side, np.ones(size, dtype=np.int64), generator) for side in ids])

    return float(figure([np.ones((1, int(side.sum()))) for side in (pos, neg)])[0]), percentiles(draw, n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--against", default="")
    args = parser.parse_args()
    run = args.run
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
    for detector in asked if args.against else []:
        other = next(d for d in asked if d.name == args.against)
        delta, ends = difference(table, detector, other, int(config.seed))
        print(f"{detector.name} - {other.name}: {delta:+.3f} ({'–' if ends is None else f'{ends[0]:+.3f} to {ends[1]:+.3f}'})")


if __name__ == "__main__":
    main()
