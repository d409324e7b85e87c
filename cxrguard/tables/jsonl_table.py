"""JSON lines, streamed. What is added goes into the line as it stands, so that all else survives to the byte."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from cxrguard.errors import BadInputError
from cxrguard.tables.batch import MAX_CHARS, MAX_ROWS, Batch, as_text, check_added, check_column
from cxrguard.tables.lines import Source


class JsonlBatch(Batch):
    """Rows of JSON lines; ``native`` is a list of (line, object). ``columns`` are those of the batch's first row."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields every row's values by column."""
        for _, values in self.native:
            yield values


class JsonlReader:
    """Reads one JSON object a line; blank lines are no rows.

    Args:
        source: The file.
        column: The text column.
        added: Columns that are to be added and may not be there.

    """

    def __init__(self, source: Source, column: str, added: Sequence[str]) -> None:
        self.progress = source.progress
        self._source, self._column, self._added = source, column, added

    def __iter__(self) -> Iterator[Batch]:
        where, row, chars = self._source.where, 0, 0
        texts: list[str] = []
        native: list[tuple[str, dict[str, Any]]] = []
        for line in self._source:
            line = line.strip(" \t\r\n")
            if not line:
                continue
            row += 1
            values = self._parse(line)
            place = f"{where}: row {row} (line {self._source.line})"
            if self._column not in values:
                check_column(place, list(values), self._column)
            check_added(place, values, self._added)
            texts.append(as_text(where, row, self._column, values[self._column]))
            native.append((line, values))
            chars += len(line)
            if len(texts) >= MAX_ROWS or chars >= MAX_CHARS:
                yield JsonlBatch(where, row - len(texts) + 1, texts, native, list(native[0][1]))
                texts, native, chars = [], [], 0
        if native:
            yield JsonlBatch(where, row - len(texts) + 1, texts, native, list(native[0][1]))

    def _parse(self, line: str) -> dict[str, Any]:
        found = "not valid JSON"
        try:
            values = json.loads(line)
            if isinstance(values, dict):
                return values
            found = f"JSON, but {_KINDS.get(type(values), 'a number')} and no object"
        except (ValueError, RecursionError):
            pass  # raised below: the error's context holds the line
        raise BadInputError(f"{self._source.where}: line {self._source.line} is {found}. A .jsonl file has one JSON object a line.")


_KINDS: dict[type, str] = {str: "a string", list: "a list", bool: "true or false", type(None): "null"}


class JsonlWriter:
    """Writes JSON lines.

    Args:
        file: Where to.
        column: The text column.
        added: Names of the columns that are added, replacing those of the same names.

    """

    def __init__(self, file: BinaryIO, column: str, added: Sequence[str]) -> None:
        self._file, self._added = file, list(added)

    def write(self, batch: Batch, cells: Sequence[tuple[Any, ...]]) -> None:
        """Writes the rows of a batch, each with the cells that are added to it."""
        for start, extra in zip(self._starts(batch), cells, strict=True):
            tail = json.dumps(dict(zip(self._added, extra, strict=True)), ensure_ascii=False)
            self._file.write(f"{start}{tail[1:]}\n".encode())

    def finish(self) -> None:
        """Does nothing: all is written."""

    def _starts(self, batch: Batch) -> Iterator[str]:
        """Each row up to where the added cells go, ``{"a": 1, ``."""
        if isinstance(batch, JsonlBatch):
            for line, values in batch.native:
                yield self._dump(values) if any(name in values for name in self._added) else line[:-1].rstrip() + ", "
        else:
            yield from map(self._dump, batch.rows())

    def _dump(self, values: dict[str, Any]) -> str:
        kept = {key: value for key, value in values.items() if key not in self._added}
        text = json.dumps(kept, ensure_ascii=False, default=str)
        # Half a surrogate pair in another column is no UTF-8; as an escape it survives.
        text = text if text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text) else json.dumps(kept, default=str)
        return text[:-1] + ", " if kept else "{"
