"""A table through a reader and a writer as the command does it, without a sanitizer."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from cxrguard.tables import open_reader, open_writer

ADDED = ("sanitized", "n_edits", "status")


def copy(source: Path, target: str, column: str = "text", *, overwrite: bool = False) -> bytes:
    """The bytes of a table with three added cells a row: the text in capitals, its length, "edited"."""
    file = io.BytesIO()
    reader = open_reader(str(source), column, () if overwrite else ADDED)
    writer = open_writer(target, file, column, ADDED)
    for batch in reader:
        writer.write(batch, [(text.upper(), len(text), "edited") for text in batch.texts])
    writer.finish()
    return file.getvalue()


@pytest.fixture(name="copy")
def copy_fixture() -> Callable[..., bytes]:
    return copy
