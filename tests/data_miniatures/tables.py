"""Writes tables."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path


def write_rows(path: Path, rows: Sequence[Sequence[object]], packed: bool = False) -> None:
    """Write a CSV, its header first; ``packed`` as ``path.gz``."""
    with gzip.open(f"{path}.gz", "wt", newline="") if packed else path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def write_dicts(path: Path, header: Sequence[str], rows: Sequence[dict[str, str]], encoding: str = "utf-8-sig") -> None:
    """Write a CSV of rows by column."""
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
