"""Reads a table of images and reports: ``.csv``, ``.jsonl`` or ``.parquet`` with columns that the user names."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path

from cxrguard.data.records import Quarantined, ReportRecord
from cxrguard.errors import BadInputError

_MISSING = frozenset(("nan", "none", "null", "n/a", "<na>"))
_COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z_ \[\]()#/-]{0,39}\d{0,2}\]?")


@dataclass
class Table:
    """A table's columns, its usable rows (1-based data row number, values) and the rows that cannot be read."""

    columns: list[str]
    rows: list[tuple[int, dict[str, object]]] = field(default_factory=list, repr=False)
    quarantined: list[Quarantined] = field(default_factory=list)


def read_table(path: Path, needed: Sequence[str]) -> Table:
    """Read ``path`` by its ending.

    Args:
        path: the table.
        needed: columns that must be there.

    Raises:
        BadInputError: unknown ending, missing, unreadable or empty file, or a needed column is missing.

    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise BadInputError(f"{path}: a table ends in {', '.join(_READERS)}.")
    if not path.is_file():
        raise BadInputError(f"{path}: there is no such file.")
    try:
        table = read(path)
    except BadInputError:
        raise
    except UnicodeDecodeError:
        raise BadInputError(f"{path}: the table is not UTF-8 text. Convert it, e.g. with iconv.") from None
    except OSError as error:
        raise BadInputError(f"{path}: the table cannot be read ({error.strerror or 'damaged'}).") from None
    _check_columns(path, table, needed)
    if not table.rows and not table.quarantined:
        raise BadInputError(f"{path}: the table has no rows.")
    return table


def _read_csv(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        # strict: without it an unclosed quote silently swallows the rest of the file
        lines = csv.reader(file, strict=True)
        try:
            table = Table([name.strip() for name in next(lines, [])])
            row = 0
            for values in lines:
                if not values:
                    continue
                row += 1
                if len(values) == len(table.columns):
                    table.rows.append((row, dict(zip(table.columns, values, strict=True))))
                else:
                    table.quarantined.append(Quarantined(row, "the number of fields differs from the header's"))
        except csv.Error:
            raise BadInputError(f"{path}: not valid CSV near line {lines.line_num} (an unclosed quote?).") from None
    return table


def _read_jsonl(path: Path) -> Table:
    table = Table([])
    columns: dict[str, None] = {}
    with path.open(encoding="utf-8-sig") as file:
        for row, line in enumerate((line for line in file if line.strip()), start=1):
            try:
                values = json.loads(line)
            except (ValueError, RecursionError):
                values = None
            if isinstance(values, dict):
                columns.update(dict.fromkeys(values))
                table.rows.append((row, values))
            else:
                table.quarantined.append(Quarantined(row, "the line is not a JSON object"))
    table.columns = list(columns)
    return table


def _read_parquet(path: Path) -> Table:
    import pandas as pd  # here: only this ending needs it

    try:
        frame = pd.read_parquet(path)
    except Exception:  # pyarrow has many errors of its own, whose text may quote data
        raise BadInputError(f"{path}: not a readable Parquet file.") from None
    frame = frame.astype(object).where(frame.notna(), None)
    rows = frame.to_dict(orient="records")
    return Table([str(c) for c in frame.columns], [(i, {str(k): v for k, v in row.items()}) for i, row in enumerate(rows, start=1)])


_READERS: dict[str, Callable[[Path], Table]] = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}


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

    Args:
        path: ``.csv``, ``.jsonl`` or ``.parquet``.
        image_column: the image's path, absolute or relative to ``root``.
        prompt_column: the report text.
        subject_column: the patient; splits keep a patient's rows together.
        root: where relative image paths start; the table's own directory if empty.

    """

    path: str
    image_column: str
    prompt_column: str
    subject_column: str
    root: str = ""

    def read(self) -> tuple[list[ReportRecord], list[Quarantined]]:
        """Return (records in table order, quarantined rows)."""
        if not self.path:
            raise BadInputError("No table is given. Set data.path=/path/to/table.csv (or .jsonl, .parquet).")
        path = Path(self.path).expanduser()
        root = Path(self.root).expanduser() if self.root else path.parent
        if not root.is_dir():
            raise BadInputError(f"{root}: there is no such directory. Set data.root to where the images lie.")
        table = read_table(path, [self.image_column, self.prompt_column, self.subject_column])
        records: list[ReportRecord] = []
        quarantined = list(table.quarantined)
        for row, values in table.rows:
            result = self._record(row, values, root)
            if isinstance(result, ReportRecord):
                records.append(result)
            else:
                quarantined.append(Quarantined(row, result))
        return records, sorted(quarantined, key=lambda item: item.row)

    def _record(self, row: int, values: dict[str, object], root: Path) -> ReportRecord | str:
        """The row's record, or why there is none."""
        image, prompt, subject = (as_text(values.get(c)) for c in (self.image_column, self.prompt_column, self.subject_column))
        if not prompt:
            return "the prompt is empty or not text"
        if not subject:
            return "the subject is empty or not text"
        if not image:
            return "the image path is empty or not text"
        if not _is_file(root / image):
            return "the image file is missing"
        name = f"row-{row}"
        return ReportRecord(subject, name, name, prompt, image_path=str(root / image), row=row)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file system takes
        return False
