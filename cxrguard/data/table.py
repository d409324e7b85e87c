"""Reads a table of images and reports: ``.csv[.gz]``, ``.jsonl[.gz]`` or ``.parquet`` with columns that the user names."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path

from cxrguard.data.lazy import Keep
from cxrguard.data.paths import OUT_OF_ROOT, inside, is_file
from cxrguard.data.records import Quarantined, ReportRecord
from cxrguard.data.text_lines import bounded_lines, open_text
from cxrguard.errors import BadInputError, CxrguardError
from cxrguard.progress import shown

_MISSING = frozenset(("nan", "none", "null", "n/a", "<na>"))
_COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z_ \[\]()#/-]{0,39}\d{0,2}\]?")
# a gzipped table: text that honest tools pack shrinks 3 to 30 times; a bomb, 1,000 times
_MAX_LINE, _MAX_RATIO, _MAX_SMALL = 1 << 24, 100, 1 << 26
_PARQUET_ROWS = 1024  # in memory at once
_INDEX = re.compile(r"__index_level_\d+__")  # pandas' own, no column of the data

Row = tuple[int, dict[str, object]]


@dataclass
class Table:
    """A table's columns, its usable rows (1-based data row number, values) and the rows that cannot be read."""

    columns: list[str] = field(default_factory=list)
    rows: Sequence[Row] = field(default=(), repr=False)
    quarantined: list[Quarantined] = field(default_factory=list)


def read_table(path: Path, needed: Sequence[str], keep: Keep = list) -> Table:
    """Read ``path`` by its ending.

    Args:
        path: the table.
        needed: columns that must be there.
        keep: keeps the rows.

    Raises:
        BadInputError: unknown ending, missing, unreadable or empty file, or a needed column is missing.

    """
    read = _READERS.get("".join(path.suffixes[-2:]).lower()) or _READERS.get(path.suffix.lower())
    if read is None:
        raise BadInputError(f"{path}: a table ends in {', '.join(_READERS)}.")
    if not path.is_file():
        raise BadInputError(f"{path}: there is no such file.")
    table = Table()
    try:
        table.rows = keep(read(path, table))
    except CxrguardError:
        raise
    except UnicodeDecodeError:
        raise BadInputError(f"{path}: the table is not UTF-8 text. Convert it, e.g. with iconv.") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "damaged"
        raise BadInputError(f"{path}: the table cannot be read ({reason}).") from None
    _check_columns(path, table, needed)
    if not table.rows and not table.quarantined:
        raise BadInputError(f"{path}: the table has no rows.")
    return table


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[str]]:
    """The file's lines; a plain file is as large as it is, a packed one may be a bomb."""
    with open_text(path) as file:
        limit = _MAX_SMALL + _MAX_RATIO * path.stat().st_size
        refusal = f"{path}: unpacked, the table is far larger than text becomes. Unpack it yourself (gunzip) if it is what you want."
        yield bounded_lines(file, _MAX_LINE, limit, refusal) if path.suffix.lower() == ".gz" else iter(file)


def _read_csv(path: Path, table: Table) -> Iterator[Row]:
    with _lines(path) as text:
        # strict: without it an unclosed quote silently swallows the rest of the file
        lines = csv.reader(text, strict=True)
        try:
            table.columns = [name.strip() for name in next(lines, [])]
            row = 0
            for values in lines:
                if not values:
                    continue
                row += 1
                if len(values) == len(table.columns):
                    yield row, dict(zip(table.columns, values, strict=True))
                else:
                    table.quarantined.append(Quarantined(row, "the number of fields differs from the header's"))
        except csv.Error:
            raise BadInputError(f"{path}: not valid CSV near line {lines.line_num} (an unclosed quote?).") from None


def _read_jsonl(path: Path, table: Table) -> Iterator[Row]:
    columns: dict[str, None] = {}
    with _lines(path) as text:
        for row, line in enumerate((line for line in text if line.strip()), start=1):
            try:
                values = json.loads(line)
            except (ValueError, RecursionError):
                values = None
            if isinstance(values, dict):
                columns.update(dict.fromkeys(values))
                yield row, values
            else:
                table.quarantined.append(Quarantined(row, "the line is not a JSON object"))
    table.columns = list(columns)


def _read_parquet(path: Path, table: Table) -> Iterator[Row]:
    from cxrguard.tables.parquet_table import open_parquet  # here: only this ending needs pyarrow

    try:
        file, schema = open_parquet(path)
        with file:
            table.columns = [name for name in schema.names if not _INDEX.fullmatch(name)]
            row = 0
            for batch in file.iter_batches(_PARQUET_ROWS, use_threads=False):
                for values in batch.to_pylist():
                    row += 1
                    yield row, values
    except Exception:  # pyarrow has many errors of its own, whose text may quote data
        raise BadInputError(f"{path}: not a readable Parquet file.") from None


_READERS: dict[str, Callable[[Path, Table], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".csv.gz": _read_csv,
    ".jsonl.gz": _read_jsonl,
}


def _check_columns(path: Path, table: Table, needed: Sequence[str]) -> None:
    if table.quarantined and not table.columns:
        raise BadInputError(f"{path}: none of the {len(table.quarantined)} rows can be read ({table.quarantined[0].reason}).")
    missing = [name for name in needed if name not in table.columns]
    if missing:
        names = ", ".join(repr(name) for name in missing)
        raise BadInputError(f"{path}: missing column {names}. {_describe(table.columns)}")
    twice = [name for name in needed if table.columns.count(name) > 1]
    if twice:
        raise BadInputError(f"{path}: column {twice[0]!r} occurs {table.columns.count(twice[0])} times; rename all but one.")


def _describe(columns: Sequence[str]) -> str:
    """The columns found, unless they look like data: without a header row the "names" are a patient's values."""
    if all(_COLUMN_NAME.fullmatch(name) and len(name.split()) <= 4 for name in columns):
        return "Columns found: " + (", ".join(repr(name) for name in columns) or "none") + "."
    return f"{len(columns)} columns found, some of which do not look like column names (not shown): is the header row missing?"


def as_text(value: object) -> str:
    """A cell as stripped text; "" for what is missing, no scalar, or no valid Unicode (it could not be hashed later)."""
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        value = int(value) if value.is_integer() else value  # with missing values, Parquet's integers are floats
    if not isinstance(value, (str, Real)):
        return ""
    text = str(value).strip()
    return text if text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text) else ""


def cell(value: object) -> str:
    """As :func:`as_text`; "" also for the words that pandas and spreadsheets write where a value is missing."""
    text = as_text(value)
    return "" if text.lower() in _MISSING else text


@dataclass(frozen=True)
class TableReader:
    """Reads images and prompts from one table.

    A row with the image and the prompt of an earlier one is set aside, whatever its patient.

    Args:
        path: ``.csv``, ``.jsonl`` (both may be gzipped: ``.csv.gz``) or ``.parquet``.
        image_column: the image's path, relative to ``root`` and inside it. Without a root: absolute, or relative to the table.
        prompt_column: the report text.
        subject_column: the patient; splits keep a patient's rows together.
        root: where image paths start; empty: the table's own directory, and paths may lead anywhere.

    """

    path: str
    image_column: str
    prompt_column: str
    subject_column: str
    root: str = ""

    def read(self, keep: Keep = list) -> tuple[Sequence[ReportRecord], list[Quarantined]]:
        """Return (records in table order, quarantined rows).

        Raises:
            BadInputError: the table cannot be used as a whole, or ``root`` is no directory.

        """
        if not self.path:
            raise BadInputError("No table is given. Set data.path=/path/to/table.csv (or .jsonl, .parquet).")
        path = Path(self.path).expanduser()
        root = Path(self.root).expanduser() if self.root else path.parent
        if not root.is_dir():
            raise BadInputError(f"{root}: there is no such directory. Set data.root to where the images lie.")
        table = read_table(path, [self.image_column, self.prompt_column, self.subject_column], keep)
        quarantined = list(table.quarantined)
        records = keep(self._records(table.rows, root, quarantined))
        return records, sorted(quarantined, key=lambda item: item.row)

    def _records(self, rows: Sequence[Row], root: Path, quarantined: list[Quarantined]) -> Iterator[ReportRecord]:
        """The usable rows' records; the other rows are added to ``quarantined``."""
        seen: set[bytes] = set()
        for row, values in shown("reading rows", rows):
            result = self._record(row, values, root)
            if isinstance(result, str):
                quarantined.append(Quarantined(row, result))
                continue
            key = hashlib.blake2b(repr((result.image_path, result.prompt)).encode(), digest_size=16).digest()
            if key in seen:
                quarantined.append(Quarantined(row, "the same row as an earlier one"))
            else:
                seen.add(key)
                yield result

    def _record(self, row: int, values: dict[str, object], root: Path) -> ReportRecord | str:
        """The row's record, or why there is none."""
        image, prompt, subject = (cell(values.get(c)) for c in (self.image_column, self.prompt_column, self.subject_column))
        if not prompt:
            return "the prompt is empty or not text"
        if not subject:
            return "the subject is empty or not text"
        if not image:
            return "the image path is empty or not text"
        path = inside(root, image) if self.root else root / image
        if path is None:
            return OUT_OF_ROOT
        if not is_file(path):
            return "the image file is missing"
        name = f"row-{row}"
        return ReportRecord(subject, name, name, prompt, image_path=str(path), row=row)
