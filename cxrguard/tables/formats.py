"""Which reader and which writer an ending asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, Protocol

from cxrguard.errors import CxrguardError
from cxrguard.tables.batch import Batch
from cxrguard.tables.csv_table import CsvReader, CsvWriter
from cxrguard.tables.jsonl_table import JsonlReader, JsonlWriter
from cxrguard.tables.lines import STANDARD, Source
from cxrguard.tables.text_table import TextReader, TextWriter

ENDINGS = (".csv", ".jsonl", ".parquet", ".txt", ".csv.gz", ".jsonl.gz", ".txt.gz")


class Reader(Protocol):
    """Yields a table's batches; ``progress()`` is (done, of how many, 0 if unknown)."""

    @property
    def progress(self) -> Callable[[], tuple[int, int]]:
        """How far it is."""

    def __iter__(self) -> Iterator[Batch]: ...


class Writer(Protocol):
    """Writes batches with the cells that are added; ``finish`` comes last."""

    def write(self, batch: Batch, cells: Sequence[tuple[Any, ...]]) -> None:
        """Writes the rows of a batch, each with the cells that are added to it."""

    def finish(self) -> None:
        """Writes what is still held back."""


_READERS: dict[str, Callable[[Source, str, Sequence[str]], Reader]] = {".csv": CsvReader, ".jsonl": JsonlReader, ".txt": TextReader}
_WRITERS: dict[str, Callable[[BinaryIO, str, Sequence[str]], Writer]] = {".csv": CsvWriter, ".jsonl": JsonlWriter, ".txt": TextWriter}


def kind(path: str) -> str:
    """The format of a path: ``.csv``, ``.jsonl``, ``.parquet`` or ``.txt``; ``-`` is ``.jsonl``.

    Raises:
        CxrguardError: For another ending.

    """
    if path == STANDARD:
        return ".jsonl"
    for ending in ENDINGS:
        if path.lower().endswith(ending):
            return ending.removesuffix(".gz")
    raise CxrguardError(
        f"{path}: the ending says the format, and this one is none of {', '.join(ENDINGS)} (or - for standard input or output)."
    )


def open_reader(path: str, column: str, added: Sequence[str] = ()) -> Reader:
    """Opens a table.

    Args:
        path: A file with one of the endings, or ``-`` (JSON lines from standard input).
        column: The text column.
        added: Columns that are to be added: it is an error if the table has them.

    Raises:
        BadInputError: While it is iterated: file, row and what was found, never a text.

    """
    if kind(path) == ".parquet":
        from cxrguard.tables.parquet_table import ParquetReader  # pyarrow takes half a second

        return ParquetReader(path, column, added)
    return _READERS[kind(path)](Source(path), column, added)


def open_writer(path: str, file: BinaryIO, column: str, added: Sequence[str], types: Sequence[type] = (str, int, str)) -> Writer:
    """A writer of the format that ``path`` ends in.

    Args:
        path: Says the format.
        file: Where to.
        column: The text column.
        added: Names of the columns that are added.
        types: Theirs (str, int, float, bool); those of the sanitizer's columns by default.

    """
    if kind(path) == ".parquet":
        from cxrguard.tables.parquet_table import ParquetWriter

        return ParquetWriter(file, column, added, types)
    return _WRITERS[kind(path)](file, column, added)
