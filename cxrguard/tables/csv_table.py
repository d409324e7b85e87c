"""CSV, streamed. The standard library reads; writing is done here, because its writer leaves a lone carriage return unquoted."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from cxrguard.errors import BadInputError
from cxrguard.tables.batch import MAX_CHARS, MAX_ROWS, Batch, check_added, check_column
from cxrguard.tables.lines import BOM, Source
from cxrguard.tables.spreadsheet import as_written

# An unclosed quote makes one field of the rest of the file: this bounds the memory that it can take.
MAX_FIELD_CHARS = 1 << 27
_DELIMITERS = (",", ";", "\t", "|")


class CsvBatch(Batch):
    """Rows of a CSV; ``native`` is a list of lists of strings."""

    dialect: tuple[str, str, bool] = (",", "\n", False)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields every row's values by column."""
        if len(set(self.columns)) < len(self.columns):
            raise BadInputError(f"{self.where}: two columns have the same name, which only a .csv can hold. Rename one, or write .csv.")
        for values in self.native:
            yield dict(zip(self.columns, values, strict=True))


class CsvReader:
    """Reads a CSV with a header row; the delimiter (comma, semicolon, tab, bar) is the one under which the header has the column.

    Args:
        source: The file.
        column: The text column.
        added: Columns that are to be added and may not be there.

    """

    def __init__(self, source: Source, column: str, added: Sequence[str]) -> None:
        csv.field_size_limit(MAX_FIELD_CHARS)
        self.progress = source.progress
        self._source, self._column, self._added = source, column, added

    def __iter__(self) -> Iterator[Batch]:
        lines = iter(self._source)
        first = next(lines, None)
        if first is None:
            raise BadInputError(f"{self._source.where}: the file is empty; a CSV starts with a header row.")
        delimiter = self._delimiter(first)
        # strict: without it an unclosed quote silently swallows the rest of the file.
        reader = csv.reader(_chain(first, lines), delimiter=delimiter, strict=True)
        columns = [name.strip() for name in self._next(reader) or []]
        index = check_column(self._source.where, columns, self._column)
        check_added(self._source.where, columns, self._added)
        dialect = (delimiter, "\r\n" if first.endswith("\r\n") else "\n", self._source.bom)
        row = 1
        while rows := self._some(reader, row, len(columns), index):
            batch = CsvBatch(self._source.where, row, [values[index] for values in rows], rows, columns)
            batch.dialect = dialect
            yield batch
            row += len(rows)
        if row == 1:  # an empty batch carries the header to the writer
            batch = CsvBatch(self._source.where, 1, [], [], columns)
            batch.dialect = dialect
            yield batch

    def _delimiter(self, header: str) -> str:
        for delimiter in _DELIMITERS:
            if self._column in (name.strip().strip('"') for name in header.rstrip("\r\n").split(delimiter)):
                return delimiter
        return ","

    def _some(self, reader: Any, row: int, n_columns: int, index: int) -> list[list[str]]:
        rows: list[list[str]] = []
        chars = 0
        while len(rows) < MAX_ROWS and chars < MAX_CHARS and (values := self._next(reader)) is not None:
            if not values:  # a blank line
                continue
            if len(values) != n_columns:
                raise BadInputError(
                    f"{self._source.where}: row {row + len(rows)} (ends on line {self._source.line}) has {len(values)} fields, "
                    f"the header has {n_columns}. Is a text with a delimiter or a line break not quoted?"
                )
            rows.append(values)
            chars += sum(map(len, values))
        return rows

    def _next(self, reader: Any) -> list[str] | None:
        start = self._source.line + 1
        try:
            return next(reader, None)
        except csv.Error:
            pass  # raised below, without the context
        raise BadInputError(
            f"{self._source.where}: not valid CSV in the row that starts on line {start} (an unclosed quote, a quote escaped by "
            f"a backslash, a carriage return within a line, or a field above {MAX_FIELD_CHARS:,} characters)."
        )


def _chain(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


class CsvWriter:
    """Writes a CSV in the dialect of the CSV that was read, else comma and line feed.

    Args:
        file: Where to.
        column: The text column.
        added: Names of the columns that are added, replacing those of the same names.

    """

    def __init__(self, file: BinaryIO, column: str, added: Sequence[str]) -> None:
        self._file, self._added = file, list(added)
        self._columns: list[str] | None = None
        self._kept: list[int] = []
        self._dialect = (",", "\n", False)

    def write(self, batch: Batch, cells: Sequence[tuple[Any, ...]]) -> None:
        """Writes the rows of a batch, each with the cells that are added to it."""
        if self._columns is None:
            self._start(batch)
        for values, extra in zip(self._values(batch), cells, strict=True):
            self._line([*values, *map(_as_cell, extra)])

    def finish(self) -> None:
        """Does nothing: all is written."""

    def _start(self, batch: Batch) -> None:
        self._dialect = batch.dialect if isinstance(batch, CsvBatch) else self._dialect
        self._columns = batch.columns
        self._kept = [i for i, name in enumerate(batch.columns) if name not in self._added]
        delimiter, _, bom = self._dialect
        self._special = re.compile(f'[{re.escape(delimiter)}"\r\n]|^[ \ufeff]|[ ]$')
        if bom:
            self._file.write(BOM)
        self._line([*(batch.columns[i] for i in self._kept), *self._added])

    def _values(self, batch: Batch) -> Iterator[list[str]]:
        if isinstance(batch, CsvBatch):
            for values in batch.native:
                yield [values[i] for i in self._kept]
            return
        known = set(self._columns or [])
        for row, values in enumerate(batch.rows(), start=batch.first_row):
            if unknown := len(values.keys() - known):
                raise BadInputError(
                    f"{batch.where}: row {row} has {unknown} column(s) that row 1 has not, and a CSV has the same columns in all rows. "
                    "Write .jsonl."
                )
            yield [_as_cell(values.get((self._columns or [])[i])) for i in self._kept]

    def _line(self, values: list[str]) -> None:
        delimiter, end, _ = self._dialect
        cells = ('"' + value.replace('"', '""') + '"' if self._special.search(value) else value for value in map(as_written, values))
        self._file.write((delimiter.join(cells) + end).encode("utf-8"))


def _as_cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
