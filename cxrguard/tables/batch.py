"""What every reader hands on and every writer takes: some consecutive rows of a table, with their texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cxrguard.errors import BadInputError

# A batch ends at whichever comes first, so that neither many small rows nor few huge ones take much memory.
MAX_ROWS = 500
MAX_CHARS = 1_000_000

_COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z_ \[\]()#/.-]{0,39}\d{0,3}\]?")
_NAMES_SHOWN = 60


@dataclass
class Batch:
    """Some consecutive rows of a table.

    Attributes:
        where: The file, for messages.
        first_row: 1-based data row of the first.
        texts: The text column; ``""`` for what is missing.
        native: The rows as the format has them, so that a writer of the same format can keep them as they are.
        columns: Names in order.
        rows: Every row's values by column; made anew by each call, since only a writer of another format needs it.

    """

    where: str
    first_row: int
    texts: list[str] = field(repr=False)
    native: Any = field(repr=False)
    columns: list[str] = field(repr=False)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields every row's values by column."""
        raise NotImplementedError


def check_column(where: str, columns: Sequence[str], column: str) -> int:
    """The index of ``column``.

    Raises:
        BadInputError: If it is missing or there twice.

    """
    if columns.count(column) > 1:
        raise BadInputError(f"{where}: column {column!r} occurs {columns.count(column)} times; rename all but one.")
    if column not in columns:
        raise BadInputError(f"{where}: missing column {column!r}. {describe(columns)} Choose one with --text-column.")
    return columns.index(column)


def check_added(where: str, columns: Iterable[str], added: Sequence[str]) -> None:
    """Raises BadInputError if the table has a column already that is to be added."""
    there = [repr(name) for name in added if name in columns]
    if there:
        raise BadInputError(f"{where}: there is a column {' and '.join(there)} already. Rename it, or replace it with --overwrite.")


def describe(columns: Sequence[str]) -> str:
    """The columns found, unless they look like data: without a header row the "names" are a patient's values."""
    if not all(_COLUMN_NAME.fullmatch(name) and len(name.split()) <= 4 for name in columns):
        return f"{len(columns)} columns found, some of which do not look like column names (not shown): is the header row missing?"
    more = f" and {len(columns) - _NAMES_SHOWN} more" if len(columns) > _NAMES_SHOWN else ""
    return "Columns found: " + (", ".join(repr(name) for name in columns[:_NAMES_SHOWN]) or "none") + more + "."


def as_text(where: str, row: int, column: str, value: object) -> str:
    """A cell of the text column as text, ``""`` for a missing one.

    Raises:
        BadInputError: For anything but text; says what it is, not its value.

    """
    if value is None:
        return ""
    if not isinstance(value, str):
        kind = _KINDS.get(type(value), "no text")
        raise BadInputError(
            f"{where}: row {row}: column {column!r} holds {kind} where text was expected. Convert it, or choose another column."
        )
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise BadInputError(
            f"{where}: row {row}: the text holds half a surrogate pair and cannot be stored as UTF-8. Mend or remove the row."
        )
    return value


_KINDS: dict[type, str] = {
    bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object", bytes: "bytes",
}  # fmt: skip
