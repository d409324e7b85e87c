"""``MODEL_CARD.md``: the verdict, the figures and their limits, to travel with the exported pipeline."""

from __future__ import annotations

from pathlib import Path

from cxrguard.audit.record import Audit, lookup, null_reason, read_audit, replication_note
from cxrguard.audit.report import format_number
from cxrguard.files import write_private

FIGURES = (
    ("Canaries planted", "canaries.n", "int"),
    ("Share of samples drawn that were canaries", "canaries.share", "pct"),
    ("Canaries extracted", "canaries.extraction_rate", "pct"),
    ("Members whose own image was extracted", "members.extraction_rate", "pct"),
    ("Controls whose prompt replayed a training image", "controls.spillover_rate", "pct"),
    ("Controls that judge the detectors", "controls.n_judging", "int"),
    ("Held-out loss", "fidelity.heldout_loss", "f4"),
    ("Held-out loss of the base model", "fidelity.heldout_loss_base", "f4"),
    ("Label agreement: AUC of labels read from controls' images (0.5 is chance)", "fidelity.labels.auc", "f3"),
    ("The same read from real images", "fidelity.labels.real_auc", "f3"),
    ("Kernel distance of the controls' images from real ones (0 is alike)", "fidelity.distance.kid", "f4"),
    ("Differential privacy, ε for one showing of one sample", "privacy.epsilon", "f2"),
    ("δ", "privacy.delta", "auto"),
    ("De-identification markers left in prompts", "sanitizer.residual_markers", "int"),
)
LIMITS = """\
- The figures hold for the attack that was tried (sampling by prompt, nearest training image). A stronger one may find more.
- Canaries stand for records repeated as often as they were; rarer records were measured only as ordinary members.
- No sample replayed is no proof that none can be: the upper end of the interval is what the audit bears out.
- The verdict is for these weights. Training on, merging or distilling them calls for a new audit.
- Not for diagnosis. Images made by this model show no real patient's state."""


def _cell(text: object) -> str:
    """Text that cannot end a table cell or start HTML."""
    flat = " ".join(str(text).split())
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _value(audit: Audit, path: str, kind: str) -> str:
    value = lookup(audit, path)
    if value is None:
        return f"– ({_cell(null_reason(audit, path) or 'not in the audit')})"
    return format_number(value, kind)


def _with_interval(audit: Audit, path: tuple[str, ...], ci: str, kind: str) -> str:
    value, interval = lookup(audit, path), lookup(audit, (*path[:-1], ci))
    if value is None:
        return "–"
    bounds = f" ({' to '.join(format_number(end, kind) for end in interval)})" if interval else ""
    return format_number(value, kind) + bounds


def _trusted(entry: dict[str, object]) -> str:
    words = "yes" if entry["trusted"] else f"no: {_cell(entry['reason'] or 'no reason given')}"
    levels = entry.get("by_repeats")
    if not isinstance(levels, list) or len(levels) < 2:
        return words
    lowest = entry.get("lowest_repeats")
    return f"{words}; {f'lowest repeats detected: {lowest}' if lowest else 'at no repeat level'}"


def _detector_rows(audit: Audit) -> list[str]:
    """A row a detector, intervals in brackets."""
    rows = ["| Detector | AUC | TPR at 1 % FPR | TPR at 0.1 % FPR | Evaluations a prompt | AUC: which prompts replay anyone | Trusted |"]
    rows.append("|---|---|---|---|---|---|---|")
    for name, entry in audit["detectors"].items():
        at = ("detectors", name)
        cells = [
            _cell(name),
            _with_interval(audit, (*at, "auc"), "auc_ci", "f3"),
            _with_interval(audit, (*at, "tpr_at_1pct_fpr"), "tpr_at_1pct_fpr_ci", "pct"),
            _with_interval(audit, (*at, "tpr_at_01pct_fpr"), "tpr_at_01pct_fpr_ci", "pct"),
            _cell(entry["evals_per_prompt"]),
            _with_interval(audit, (*at, "outcome", "auc"), "auc_ci", "f3"),
            _trusted(entry),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def model_card(audit: Audit) -> str:
    """The card's Markdown."""
    passed = audit["verdict"]["pass"]
    interval = audit["canaries"]["extraction_ci"]
    bounds = f" (95 % interval {format_number(interval[0], 'pct')} to {format_number(interval[1], 'pct')})" if interval else ""
    lines = [f"# {_cell(lookup(audit, 'run.name') or 'Model')}", ""]
    lines += [f"**{'May be released' if passed else 'Must not be released'}** by the memorization audit of cxrguard.", ""]
    lines += [f"- {_cell(reason)}" for reason in audit["verdict"]["reasons"]] + ["", "## Figures", "", "| Figure | Value |", "|---|---|"]
    for label, path, kind in FIGURES:
        extra = bounds if path == "canaries.extraction_rate" else ""
        lines.append(f"| {label} | {_value(audit, path, kind)}{extra} |")
    lines += [
        "",
        "## Detectors",
        "",
        "95 % intervals in brackets.",
        "",
        *_detector_rows(audit),
        *(["", note] if (note := replication_note(audit)) else []),
        "",
        "## Limits",
        "",
        LIMITS,
        "",
        "## Training",
        "",
    ]
    lines += [f"- Steps: {_value(audit, 'steps', 'int')}; seed: {audit['seed']}; weights: {_cell(audit['weights'])}"]
    lines += [f"- Configuration: `{_cell(audit['config_hash'])}`"]
    return "\n".join(lines) + "\n"


def write_model_card(run_dir: str | Path) -> Path:
    """Write ``MODEL_CARD.md`` (mode 0600) from a run directory's ``audit.json``.

    Raises:
        CxrguardError: if the audit is missing or breaks the contract.

    """
    run_dir = Path(run_dir)
    return write_private(run_dir / "MODEL_CARD.md", model_card(read_audit(run_dir / "audit.json")))
