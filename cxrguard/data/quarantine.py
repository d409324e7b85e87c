"""What happens to samples that cannot be used: listed by row, counted, and too many of them stop the run."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cxrguard.data.records import Quarantined
from cxrguard.errors import BadInputError, CxrguardError

_REASONS_SHOWN = 5


def write_quarantine(path: Path, rows: Sequence[Quarantined]) -> None:
    """Write ``rows`` as CSV (row, reason), in row order, readable by the owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(handle, 0o600)  # the mode above counts for new files only
    with os.fdopen(handle, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["row", "reason"])
        writer.writerows((item.row, item.reason) for item in sorted(rows, key=lambda item: item.row))


def check_fraction(
    n_bad: int,
    n_total: int,
    max_bad_fraction: float,
    rows: Sequence[Quarantined] = (),
    path: Path | None = None,
) -> None:
    """Raise if too many samples are unusable.

    Args:
        n_bad: quarantined samples.
        n_total: all samples, usable or not.
        max_bad_fraction: the largest share that is still accepted.
        rows: the quarantined rows, to name the most common reasons.
        path: where quarantine.csv was written.

    Raises:
        BadInputError: more than ``max_bad_fraction`` are bad, or none is usable.

    """
    if not 0 <= max_bad_fraction <= 1:
        raise CxrguardError(f"data.max_bad_fraction must lie between 0 and 1, not {max_bad_fraction}.")
    if n_total == 0:
        raise BadInputError("The data set has no samples. Check data.root (or data.path).")
    if n_bad < n_total and n_bad <= max_bad_fraction * n_total:
        return
    message = f"{n_bad} of {n_total} samples ({n_bad / n_total:.1%}) cannot be used"
    message += "." if n_bad == n_total else f"; data.max_bad_fraction allows {max_bad_fraction:.1%}."
    common = Counter(item.reason for item in rows).most_common(_REASONS_SHOWN)
    if common:
        message += " Most common reasons: " + "; ".join(f"{reason} ({count})" for reason, count in common) + "."
    if path is not None:
        message += f" All rows: {path}."
    remedy = " Mend the data set." if n_bad == n_total else " Mend the rows, or raise data.max_bad_fraction to train without them."
    raise BadInputError(message + remedy)
