"""A study: the arms of a sweep (or a single run) side by side, failed ones included."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from cxrguard.audit.charts import NARROW
from cxrguard.audit.compared import JUDGED, compare
from cxrguard.audit.marker_study import collect_marker_studies
from cxrguard.audit.pooled import pool
from cxrguard.audit.pooled_forecast import pool_forecasts
from cxrguard.audit.record import Audit, directions_of, read_audit
from cxrguard.audit.report import Figures, environment, render_body, write_report
from cxrguard.audit.score_table import read_scores
from cxrguard.audit.trade_off_chart import trade_off_chart
from cxrguard.errors import CxrguardError
from cxrguard.files import read_json, write_json_private, write_private

Arm = dict[str, Any]
MAX_ERROR = 400
MAX_DEPTH = 4  # outputs/2026-01-31/12-00-00, a sweep of which has its jobs one below
UNFINISHED = "The job left no status.json: it was killed, or is still running."


def _is_run(path: Path) -> bool:
    return (path / "status.json").is_file() or (path / "audit.json").is_file()


def _order(path: Path) -> tuple[int, int, str]:
    """0, 1, 2, 10 in their numbers' order, other names after them."""
    return (0, int(path.name), "") if path.name.isdecimal() else (1, 0, path.name)


def run_dirs(directory: Path, depth: int = MAX_DEPTH) -> list[Path]:
    """The directory itself if it is a run, else the runs below it, in the order of their numbers: a sweep's jobs, or any set of runs.

    A directory with ``.hydra`` but no ``status.json`` counts: a killed job must not vanish from the comparison. Hidden directories and
    links are not entered, and nothing below a run is one.
    """
    if _is_run(directory) or (depth < MAX_DEPTH and (directory / ".hydra").is_dir()):
        return [directory]
    if not depth:
        return []
    children = (child for child in directory.iterdir() if child.is_dir() and not child.is_symlink() and not child.name.startswith("."))
    return [run for child in sorted(children, key=_order) for run in run_dirs(child, depth - 1)]


def _overrides(run_dir: Path) -> list[str]:
    try:
        loaded = yaml.safe_load((run_dir / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return []
    return [str(item) for item in loaded] if isinstance(loaded, list) else []


def _status(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "status.json"
    if not path.is_file():
        return {"status": "failed", "error": UNFINISHED}
    try:
        loaded = read_json(path)
    except CxrguardError as error:
        return {"status": "failed", "error": str(error)}
    return loaded if isinstance(loaded, dict) else {"status": "failed", "error": "status.json is not an object."}


def _audit(run_dir: Path) -> tuple[Audit | None, str | None]:
    """The audit, or why there is none; one broken arm must not cost the others their comparison."""
    if not (run_dir / "audit.json").is_file():
        return None, None
    try:
        return read_audit(run_dir / "audit.json"), None
    except CxrguardError as error:
        return None, str(error)


def _arm(run_dir: Path, root: Path) -> Arm:
    status = _status(run_dir)
    audit, complaint = _audit(run_dir)
    errors = [str(error)[:MAX_ERROR] for error in (status.get("error"), complaint) if error]
    seed = status.get("seed")
    return {
        "overrides": _overrides(run_dir),
        "seed": audit["seed"] if seed is None and audit else seed,
        "status": str(status.get("status", "failed")),
        "audit": audit,
        "error": " ".join(errors) or None,
        "dir": run_dir.relative_to(root).as_posix(),
    }


def _pooled(arms: list[Arm], root: Path) -> list[dict[str, Any]]:
    """The detectors over arms that differ in nothing but their seed, for every such group of at least two seeds."""
    alike: dict[tuple[str, ...], dict[str, Arm]] = {}
    for arm in arms:
        if arm["audit"]:
            same = alike.setdefault(tuple(sorted(item for item in arm["overrides"] if item.partition("=")[0].lstrip("+") != "seed")), {})
            same.setdefault(str(arm["seed"]), arm)  # a seed that was run twice counts once: it is the same run
    return [_pool_arms(overrides, list(found.values()), root) for overrides, found in alike.items() if len(found) > 1]


def _pool_arms(overrides: tuple[str, ...], arms: list[Arm], root: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"overrides": list(overrides), "seeds": [arm["seed"] for arm in arms], "dirs": [arm["dir"] for arm in arms]}
    forecast = pool_forecasts([arm["audit"]["forecast"] for arm in arms if arm["audit"].get("forecast")])
    entry |= {"forecast": forecast} if forecast else {}
    try:
        tables = [read_scores(root / arm["dir"]) for arm in arms]
        return entry | {"detectors": pool(tables, directions_of(arms[0]["audit"])), "reason": None}
    except CxrguardError as error:
        return entry | {"detectors": {}, "reason": str(error)}


def collect_study(directory: str | Path) -> dict[str, Any]:
    """Gather every arm under a directory and write ``study.json`` (mode 0600).

    Args:
        directory: A run's directory, or one with runs below it, such as a sweep's; see :func:`run_dirs`.

    Returns:
        ``{"arms": [{"overrides", "seed", "status", "audit", "error", "dir"}]}``; ``dir`` is relative to ``directory``. With
        arms that differ only in their seed also ``pooled``: a list of ``{"overrides", "seeds", "dirs", "detectors", "reason"}``,
        see :func:`cxrguard.audit.pooled.pool_detector`, and ``forecast`` where a run made one, see
        :func:`~cxrguard.audit.pooled_forecast.pool_forecasts`. With arms of different settings also ``compared``: see
        :func:`cxrguard.audit.compared.compare`. With arms whose canaries differ in their marker also ``marker_study``:
        a list, see :func:`cxrguard.audit.marker_study.collect_marker_studies`.

    Raises:
        CxrguardError: if there is no run.

    """
    root = Path(directory)
    found = run_dirs(root) if root.is_dir() else []
    if not found:
        raise CxrguardError(f"No run under {root}: expected a status.json there, or in a directory up to {MAX_DEPTH} below. Train first.")
    study: dict[str, Any] = {"arms": [_arm(run_dir, root) for run_dir in found]}
    compared = compare(study["arms"], root)
    if compared:
        study["compared"] = compared
    pooled = _pooled(study["arms"], root)
    if pooled:
        study["pooled"] = pooled
    marker_studies = collect_marker_studies(study["arms"], root)
    if marker_studies:
        study["marker_study"] = marker_studies
    write_json_private(root / "study.json", study)
    return study


def _shared_notes(values: dict[str, Any], notes: Figures) -> Figures:
    figures = Figures(values, notes.prefix)
    figures.notes = notes.notes
    return figures


def _rows(study: dict[str, Any], notes: Figures) -> list[Arm]:
    """The arms as the table shows them; all figures share one list of footnotes."""
    rows = []
    for index, arm in enumerate(study["arms"]):
        figures = _shared_notes(arm["audit"] or {}, notes)
        inside = arm["dir"] != "."
        link = f"{quote(arm['dir'])}/report.html" if inside and arm["audit"] else None
        rows.append({**arm, "f": figures, "link": link, "label": arm["dir"] if inside else f"run {index}"})
    return rows


def _compared(rows: list[dict[str, Any]], notes: Figures) -> dict[str, Any]:
    """What the page shows of the settings side by side."""
    charts = (trade_off_chart(rows), trade_off_chart(rows, NARROW))
    return {
        "compared": [row | {"f": _shared_notes(row, notes)} for row in rows],
        "groups": [(group, group.replace("_", "-").capitalize()) for group in JUDGED[1:] if any(group in row["replays"] for row in rows)],
        "fidelity": list(dict.fromkeys(name for row in rows for name in row["fidelity"])),
        "levels": sorted({level["repeats"] for row in rows for level in row["by_repeats"]}),
        "trade_off": charts if charts[0] else None,
    }


def write_study(directory: str | Path) -> Path:
    """Write ``study.json``, each arm's own ``report.html`` and the ``report.html`` that compares them (mode 0600).

    With a single arm the page also holds that arm's whole report.

    Returns:
        The comparing page's path.

    Raises:
        CxrguardError: if there is no run.

    """
    root = Path(directory)
    study = collect_study(root)
    audited = [arm for arm in study["arms"] if arm["audit"]]
    for arm in audited:
        if arm["dir"] != ".":
            write_report(root / arm["dir"])
    names = list(dict.fromkeys(name for arm in audited for name in arm["audit"]["detectors"]))
    notes = Figures({}, "study")
    single = len(study["arms"]) == 1 and bool(audited)
    body = render_body(audited[0]["audit"], root / audited[0]["dir"]) if single else None
    context = {
        "title": f"Study: {root.resolve().name}",
        "arms": _rows(study, notes),
        "detectors": names,
        "notes": notes,
        "body": body,
        "pooled": [group | {"f": _shared_notes(group, notes)} for group in study.get("pooled", [])],
        **_compared(study.get("compared", []), notes),
        "marker_studies": [group | {"f": _shared_notes(group, notes)} for group in study.get("marker_study", [])],
    }
    return write_private(root / "report.html", environment().get_template("study.html.j2").render(context))
