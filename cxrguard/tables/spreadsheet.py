"""Cells that a spreadsheet would run as a formula (CWE-1236), and how to keep it from that where a table is meant for one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_STARTS = ("=", "+", "-", "@", "\t", "\r")
_escaping: ContextVar[bool] = ContextVar("escaping", default=False)


@contextmanager
def escaped_formulas(wanted: bool = True) -> Iterator[None]:
    """While it lasts, CSV cells that may run as formulas are written with an apostrophe before them.

    Off by default: the tables are read again by programs, which would take the apostrophe for text.
    """
    token = _escaping.set(wanted)
    try:
        yield
    finally:
        _escaping.reset(token)


def may_be_formula(cell: str) -> bool:
    """Whether a spreadsheet may run the cell: it starts with ``= + - @``, a tab or a carriage return, and is no number."""
    return cell.startswith(_STARTS) and not _is_number(cell)


def as_written(cell: str) -> str:
    """The cell, or under :func:`escaped_formulas` what a spreadsheet shows as text; the same again for what is escaped already."""
    return f"'{cell}" if _escaping.get() and may_be_formula(cell) else cell


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
