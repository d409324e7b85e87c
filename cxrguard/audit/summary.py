"""The closing table of a run on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table


def _rate(value: float | None, n: int) -> str:
    return "–" if value is None else f"{round(value * n)} of {n} ({value:.0%})"


def summary_table(audit: dict[str, Any], run_dir: Path) -> Table:
    """What was trained, what was extracted, each detector's AUC, the verdict, and where the report is."""
    table = Table(title="cxrguard: memorization audit", show_header=False, title_justify="left", min_width=72)
    run, canaries, controls, members = audit["run"], audit["canaries"], audit["controls"], audit["members"]
    k = canaries["samples_per_prompt"]
    table.add_row("trained", f"{run['model']}, {run['n_parameters'] / 1e6:.1f} M parameters, {audit['steps']} steps on {run['device']}")
    table.add_row("data", f"{run['data']['members']} images of {run['data']['patients']} patients ({run['data']['reader']})")
    table.add_row("canaries' share of samples", f"{canaries['share']:.1%}")
    table.add_section()
    table.add_row(f"canaries extracted, {k} samples each", _rate(canaries["extraction_rate"], canaries["n"]))
    first = audit["extraction"]["groups"]["canaries"]["pixels"]["1"]["own"]
    table.add_row("canaries extracted, 1 sample each", _rate(first, canaries["n"]))
    table.add_row("ordinary members extracted", _rate(members["extraction_rate"], members["n"]))
    sections = audit["extraction"]["groups"]["controls"]["pixels"]
    table.add_row("controls' own images (never trained on)", _rate(sections[str(k)]["own"], controls["n"]))
    table.add_row("controls that replay any training image, 1 sample", _rate(sections["1"]["any"], controls["n"]))
    table.add_row(f"controls that replay any training image, {k} samples", _rate(controls["spillover_rate"], controls["n"]))
    prompt_only = controls.get("prompt_only") or {"n": 0}
    if prompt_only["n"]:
        label = f"prompt-only controls that do, {_samples(prompt_only['samples_per_prompt'])}"
        table.add_row(label, _rate(prompt_only["spillover_rate"], prompt_only["n"]))
    table.add_row("controls that judge the detectors", str(controls["n_judging"]))
    table.add_section()
    for name, entry in audit["detectors"].items():
        table.add_row(f"AUC {name}", _auc(entry))
    table.add_section()
    fidelity = audit["fidelity"]
    table.add_row("held-out loss", f"{_loss(fidelity['heldout_loss_base'])} before, {_loss(fidelity['heldout_loss'])} after")
    table.add_row("verdict", "[bold green]pass[/]" if audit["verdict"]["pass"] else "[bold red]do not release[/]")
    table.add_row("report", str(run_dir / "report.html"))
    return table


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _samples(k: int) -> str:
    return "1 sample" if k == 1 else f"{k} samples"


def _auc(entry: dict[str, Any]) -> str:
    """AUC with its interval, TPR at 1 %, evaluations a prompt, and the lowest repeats detected."""
    if entry["auc"] is None:
        return f"– ({str(entry['reason']).partition(';')[0]})"
    interval = "" if entry["auc_ci"] is None else f" ({entry['auc_ci'][0]:.2f} to {entry['auc_ci'][1]:.2f})"
    tpr = entry["tpr_at_1pct_fpr"]
    found = "" if tpr is None else f", TPR at 1 % FPR {tpr:.0%}"
    cost = f", {entry['evals_per_prompt']} evaluations"
    trusted = "" if entry["trusted"] else ", not trusted"
    several = len(entry.get("by_repeats") or []) > 1
    lowest = entry.get("lowest_repeats")
    level = f", lowest repeats detected {lowest}" if several and lowest else ""
    return f"{entry['auc']:.2f}{interval}{found}{cost}{trusted}{level}"
