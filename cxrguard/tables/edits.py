"""The edits file: one line an edit, as offsets and names of rules; there is no place in it for a text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import BinaryIO

from cxrguard.errors import CxrguardError

COLUMNS = ("row", "rule", "action", "start", "end")
ENDINGS = (".jsonl", ".csv")


def check_ending(path: str) -> None:
    """Raises CxrguardError unless ``path`` can be an edits file."""
    if not path.lower().endswith(ENDINGS):
        raise CxrguardError(f"{path}: an edits file ends in {' or '.join(ENDINGS)}.")


class EditsWriter:
    """Writes edits as JSON lines, or CSV with a header.

    Args:
        path: Says the format by its ending.
        file: Where to.

    """

    def __init__(self, path: str, file: BinaryIO) -> None:
        self._file = file
        self._csv = path.lower().endswith(".csv")
        if self._csv:
            self._file.write((",".join(COLUMNS) + "\n").encode())

    def write(self, row: int, edits: Sequence[tuple[str, str, int, int]]) -> None:
        """Writes the edits of data row ``row``."""
        for edit in edits:
            values = (row, *edit)
            self._file.write((_csv_line(values) if self._csv else json.dumps(dict(zip(COLUMNS, values, strict=True))) + "\n").encode())


def _csv_line(values: Sequence[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()
