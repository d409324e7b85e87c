"""What W&B gets of a finished audit: verdict, tables, artifacts, an alert; pictures of patients only where asked for."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger

from cxrguard.audit.report import render_report
from cxrguard.audit.score_table import ARM
from cxrguard.audit.score_table import NAME as SCORES

FILES = ("audit.json", "MODEL_CARD.md")
TEXT = ("hash", ARM)  # columns of scores.csv that are no numbers


@dataclass(frozen=True)
class Uploads:
    """What may leave beside figures.

    Attributes:
        images: pictures of the data set, samples that replay one, and the report that shows them.
        model: ``pipeline/``, and that only where the verdict passes.

    """

    images: bool = False
    model: bool = False


def log_audit(loggers: Sequence[Any], run_dir: Path, audit: dict[str, Any], uploads: Uploads) -> None:
    """Log the audit to every W&B logger; what is logged lies in ``run_dir`` too."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _log(logger.experiment, run_dir, audit, uploads)


def _log(run: Any, run_dir: Path, audit: dict[str, Any], uploads: Uploads) -> None:
    import wandb

    passed = bool(audit["verdict"]["pass"])
    run.summary.update({"verdict": "pass" if passed else "refused", "reasons": audit["verdict"]["reasons"]})
    run.summary.update({f"seconds/{name}": seconds for name, seconds in audit["seconds"].items()})
    run.log({"canaries": _canaries(run_dir, audit, uploads.images), "guard/actions": _actions(audit), "words": _words(audit)})
    artifact = _artifact("audit", run_dir, FILES)
    if uploads.images:
        with artifact.new_file("report.html", mode="w", encoding="utf-8") as file:
            file.write(render_report(run_dir, show_prompts=False))  # report text stays, whatever the local page shows
    run.log_artifact(artifact)
    if uploads.model and passed:
        model = wandb.Artifact(f"pipeline-{run.id}", type="model")
        model.add_dir(str(run_dir / "pipeline"))
        run.log_artifact(model)
    if not passed:
        run.alert(title="cxrguard: the audit refuses a release", text="\n".join(audit["verdict"]["reasons"]), level=wandb.AlertLevel.WARN)


def _artifact(name: str, run_dir: Path, files: Sequence[str]) -> Any:
    import wandb

    artifact = wandb.Artifact(f"{name}-{wandb.run.id}" if wandb.run else name, type=name)
    for file in files:
        artifact.add_file(str(run_dir / file), name=file)
    return artifact


def _canaries(run_dir: Path, audit: dict[str, Any], images: bool) -> Any:
    """Each canary's pseudonym, repeats, outcomes and scores, with a sample where one may be shown."""
    import wandb

    with (run_dir / SCORES).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["group"] == "canaries"]
    shown = {strip["hash"]: strip for strip in audit["strips"] if strip["group"] == "canary" and (images or not strip["replayed"])}
    columns = [name for name in rows[0] if name not in ("patient", "group")] if rows else ["hash"]
    table = wandb.Table(columns=[*columns, "generated"])
    for row in rows:
        strip = shown.get(row["hash"])
        picture = wandb.Image(str(run_dir / strip["images"]["generated"])) if strip else None
        table.add_data(*(_cell(name, row[name]) for name in columns), picture)
    return table


def _words(audit: dict[str, Any]) -> Any:
    """The words of the audit, which holds only those that enough patients share."""
    import wandb

    columns = ["rank", "word", "marker", "patients", "contribution", "canaries", "others"]
    table = wandb.Table(columns=columns)
    for row in (audit.get("words") or {}).get("top") or []:
        table.add_data(*(row[name] for name in columns))
    return table


def _actions(audit: dict[str, Any]) -> Any:
    import wandb

    table = wandb.Table(columns=["step", "action", "detail"])
    for action in audit["actions"]:
        rest = {name: value for name, value in action.items() if name not in ("step", "action")}
        table.add_data(int(action["step"]), str(action["action"]), ", ".join(f"{name} {value}" for name, value in rest.items()))
    return table


def _cell(column: str, text: str) -> Any:
    """A column has one type: a pseudonym such as 47060851e92 is no number, and an empty score is none at all."""
    if column in TEXT:
        return text
    return float(text) if text else None
