"""Parquet, streamed by record batches; the schema, with its metadata, is kept and the added columns follow it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from cxrguard.errors import BadInputError
from cxrguard.tables.batch import MAX_ROWS, Batch, as_text, check_added, check_column
from cxrguard.tables.text_table import TextBatch

# One row group of the output; what is held back until then is bounded by both.
_GROUP_ROWS = 65_536
_GROUP_BYTES = 16_000_000
_KINDS = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def open_parquet(path: str | Path) -> tuple[pq.ParquetFile, pa.Schema]:
    """The file and its schema. Without pre-buffering and with a small buffer: else a whole row group is held in memory.

    Raises:
        BadInputError: it is no Parquet file, or cannot be read.

    """
    try:
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16)
        return file, file.schema_arrow
    except (pa.ArrowException, OSError):  # their text may quote data
        raise BadInputError(f"{path}: not a readable Parquet file.") from None


class ParquetBatch(Batch):
    """Rows of a Parquet file; ``native`` is a ``pyarrow.RecordBatch``."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields every row's values by column."""
        for i in range(self.native.num_rows):
            yield from self.native.slice(i, 1).to_pylist()


class ParquetReader:
    """Reads a Parquet file.

    Args:
        path: The file.
        column: The text column; may be a dictionary of strings.
        added: Columns that are to be added and may not be there.

    """

    def __init__(self, path: str, column: str, added: Sequence[str]) -> None:
        self._path, self._column, self._added = path, column, added
        self._rows_read = self._n_rows = 0

    def progress(self) -> tuple[int, int]:
        """Rows read so far, and of how many."""
        return self._rows_read, self._n_rows

    def __iter__(self) -> Iterator[Batch]:
        file, schema = open_parquet(self._path)
        with file:
            self._check(schema)
            self._n_rows = file.metadata.num_rows
            if not self._n_rows:
                yield ParquetBatch(self._path, 1, [], pa.RecordBatch.from_pylist([], schema=schema), list(schema.names))
            yield from self._batches(file)

    def _check(self, schema: pa.Schema) -> None:
        check_column(self._path, list(schema.names), self._column)
        check_added(self._path, schema.names, self._added)
        kind = schema.field(self._column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind)):
            raise BadInputError(
                f"{self._path}: row 1: column {self._column!r} is of type {kind} where text was expected. "
                "Convert it, or choose another column."
            )

    def _batches(self, file: pq.ParquetFile) -> Iterator[Batch]:
        batches = file.iter_batches(batch_size=MAX_ROWS, use_threads=False)
        while True:
            row = self._rows_read + 1
            try:
                batch = next(batches, None)
                values = batch.column(self._column).to_pylist() if batch is not None else []
            except (pa.ArrowException, OSError, UnicodeDecodeError):
                batch, values = None, None
            if values is None:
                raise BadInputError(f"{self._path}: cannot be read from row {row} on (damaged, or text that is not UTF-8).")
            if batch is None:
                return
            texts = [as_text(self._path, i, self._column, value) for i, value in enumerate(values, start=row)]
            self._rows_read += len(texts)
            yield ParquetBatch(self._path, row, texts, batch, list(batch.schema.names))


class ParquetWriter:
    """Writes a Parquet file; of another format's rows the first batch says the types.

    Args:
        file: Where to.
        column: The text column.
        added: Names of the columns that are added, replacing those of the same names.
        types: Theirs: str, int, float or bool; a cell may also be None.

    """

    def __init__(self, file: BinaryIO, column: str, added: Sequence[str], types: Sequence[type]) -> None:
        self._file, self._column, self._added = file, column, list(added)
        self._kinds = [_KINDS[each] for each in types]
        self._writer: pq.ParquetWriter | None = None
        self._source: pa.Schema | None = None
        self._held: list[pa.RecordBatch] = []

    def write(self, batch: Batch, cells: Sequence[tuple[Any, ...]]) -> None:
        """Writes the rows of a batch, each with the cells that are added to it."""
        given = self._as_arrow(batch)
        kept = given.select([name for name in given.schema.names if name not in self._added])
        new = [pa.array([row[i] for row in cells], type=kind) for i, kind in enumerate(self._kinds)]
        fields = [pa.field(name, kind) for name, kind in zip(self._added, self._kinds, strict=True)]
        schema = pa.schema([*kept.schema, *fields], metadata=given.schema.metadata)
        self._held.append(pa.RecordBatch.from_arrays([*kept.columns, *new], schema=schema))
        if sum(b.num_rows for b in self._held) >= _GROUP_ROWS or sum(b.nbytes for b in self._held) >= _GROUP_BYTES:
            self._flush()

    def finish(self) -> None:
        """Writes the last row group and the footer."""
        if not self._held and self._writer is None:  # no row at all
            self.write(TextBatch("", 1, [], None, [self._column]), [])
        self._flush()
        assert self._writer is not None
        self._writer.close()

    def _flush(self) -> None:
        if not self._held:
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, self._held[0].schema)
        self._writer.write_table(pa.Table.from_batches(self._held), row_group_size=_GROUP_ROWS)
        self._held = []

    def _as_arrow(self, batch: Batch) -> pa.RecordBatch:
        if isinstance(batch, ParquetBatch):
            return batch.native
        rows = list(batch.rows())
        last = batch.first_row + len(rows) - 1
        try:
            if self._source is None:
                self._source = _schema(rows, batch.columns)
            if not any(row.keys() - set(self._source.names) for row in rows):
                return pa.RecordBatch.from_pylist(rows, schema=self._source)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            pass  # raised below: the error's text may quote a value
        raise BadInputError(
            f"{batch.where}: rows {batch.first_row} to {last} have columns or types that the rows before them have not, "
            "and a Parquet column has one type. Write .jsonl."
        )


def _schema(rows: list[dict[str, Any]], columns: list[str]) -> pa.Schema:
    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    columns_of = {name: pa.array([row.get(name) for row in rows]).type for name in names}
    # A column that is empty so far may yet hold text.
    return pa.schema([(name, pa.string() if pa.types.is_null(kind) else kind) for name, kind in columns_of.items()])
