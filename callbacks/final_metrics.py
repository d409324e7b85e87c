"""The audit's figures for every logger, once at the end."""

from __future__ import annotations

from typing import Any

from callbacks.probe import by_level

SANITIZER_COUNTS = ("prompts", "edited", "emptied", "refused", "residual_markers")


def final_metrics(audit: dict[str, Any]) -> dict[str, Any]:
    """The audit's figures for every logger; none of them is a time, so that a second audit of the same weights says the same."""
    final = {"final/extraction_rate": audit["canaries"]["extraction_rate"], "final/spillover_rate": audit["controls"]["spillover_rate"]}
    final |= by_level("final/extraction_rate", {str(row["repeats"]): row["extraction_rate"] for row in audit["canaries"]["by_repeats"]})
    for name, entry in audit["detectors"].items():
        final |= {f"final/auc/{name}": entry["auc"], f"final/tpr_at_1pct_fpr/{name}": entry["tpr_at_1pct_fpr"]}
        final |= by_level(f"final/exposure/{name}", {str(row["repeats"]): row["exposure"] for row in entry.get("by_repeats") or []})
    return final | {f"final/sanitizer/{name}": audit["sanitizer"][name] for name in SANITIZER_COUNTS}


def log_final(loggers: list[Any], audit: dict[str, Any]) -> None:
    """Log them at the run's last step, and close the loggers."""
    final = final_metrics(audit)
    for logger in loggers:
        logger.log_metrics({name: value for name, value in final.items() if value is not None}, step=audit["steps"])
        logger.finalize("success")
