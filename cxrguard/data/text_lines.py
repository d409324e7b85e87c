"""Opens text that may be gzipped, and reads it line by line so that a decompression bomb ends early."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from cxrguard.errors import BadInputError


def open_text(path: Path) -> TextIO:
    """Open ``path`` as UTF-8, with or without a byte-order mark, gzipped if it ends in ``.gz``; line ends as they are."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def bounded_lines(file: TextIO, max_line: int, max_total: int, refusal: str) -> Iterator[str]:
    """Lines of a file that may be a decompression bomb.

    Args:
        file: open text.
        max_line: characters of the longest line that is still read.
        max_total: characters of all lines together.
        refusal: what the error says.

    Raises:
        BadInputError: a bound is passed; no more than ``max_line`` characters beyond it were read.

    """
    total = 0
    while line := file.readline(max_line):
        total += len(line)
        if len(line) == max_line or total > max_total:
            raise BadInputError(refusal)
        yield line
