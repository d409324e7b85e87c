"""Writers of tables whose added columns are of any type; :mod:`cxrguard.tables` knows the sanitizer's three only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from cxrguard.tables import Batch, Writer, open_writer
from cxrguard.tables.formats import kind


def open_cell_writer(path: str, file: BinaryIO, column: str, added: dict[str, type]) -> Writer:
    """A writer of the format that ``path`` ends in.

    Args:
        path: says the format.
        file: where to.
        column: the text column.
        added: type (str, int, float, bool) of each column that is added; a cell may also be None.

    """
    if kind(path) != ".parquet":
        return open_writer(path, file, column, tuple(added))
    import pyarrow as pa  # type: ignore[import-untyped]

    from cxrguard.tables.parquet_table import ParquetWriter

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}

    class CellWriter(ParquetWriter):
        """Adds columns of the types asked for."""

        def write(self, batch: Batch, cells: Sequence[tuple[Any, ...]]) -> None:
            given = self._as_arrow(batch)
            kept = given.select([name for name in given.schema.names if name not in added])
            new = [pa.array([row[i] for row in cells], type=kinds[of]) for i, of in enumerate(added.values())]
            fields = [pa.field(name, kinds[of]) for name, of in added.items()]
            schema = pa.schema([*kept.schema, *fields], metadata=given.schema.metadata)
            self._held.append(pa.RecordBatch.from_arrays([*kept.columns, *new], schema=schema))
            if sum(b.num_rows for b in self._held) >= 8192:
                self._flush()

    return CellWriter(file, column, tuple(added))


class MadeBatch(Batch):
    """Rows that were made here; ``native`` is a list of their first columns' values."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields the first columns of every row."""
        for values in self.native:
            yield dict(zip(self.columns, values, strict=True))


def finite(value: float) -> float | None:
    """The number, None where it is none."""
    number = float(value)
    return number if math.isfinite(number) else None
