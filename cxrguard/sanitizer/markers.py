"""Finds and shortens markers. A text is searched once for each convention; whoever needs the spans later is handed them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cxrguard.errors import CxrguardError

# Stands for one marker while a text is repaired. Private use: no report has it, and if one does it is treated as a
# marker, which is the safe side.
MARK = "\ue0ff"
REMEDY = "Bound the repetitions ({0,80} for * and +) and put no repetition inside another one."

# A user's pattern is given this long a text; a shipped one is linear and needs no clock.
_SECONDS, _SECONDS_A_CHARACTER = 0.5, 1e-6

Span = tuple[int, int]


@dataclass(frozen=True)
class Convention:
    """How one data set marks what was taken out.

    Attributes:
        name: The YAML file's name.
        description: One or two sentences for people.
        pattern: Matches one whole marker; linear in the length of the text unless ``timed``.
        examples: Pairs (before, after) that the contract test runs.
        hints: A text that holds none of these holds no marker; empty if nothing is known. They make clean texts cheap.
        opt_in: Not part of ``auto``.
        timed: The pattern is a user's and runs against a clock.

    """

    name: str
    description: str
    pattern: re.Pattern[str]
    examples: tuple[tuple[str, str], ...]
    hints: tuple[str, ...] = ()
    opt_in: bool = False
    timed: bool = False

    @cached_property
    def ascii_hints(self) -> tuple[str, ...]:
        """The hints that an ASCII text can hold; Python knows of a text whether it is one."""
        return tuple(hint for hint in self.hints if hint.isascii())

    def spans(self, text: str) -> list[Span]:
        """Start and end of each match.

        Raises:
            CxrguardError: If a user's pattern takes too long.

        """
        if not self.timed:
            return [m.span() for m in self.pattern.finditer(text)]
        try:
            return list(timed_spans(self.pattern, text, _SECONDS + _SECONDS_A_CHARACTER * len(text)))
        except TimeoutError:
            raise CxrguardError(f"Marker convention {self.name!r}: ran out of time on {len(text)} characters. {REMEDY}") from None


@dataclass(frozen=True)
class Markers:
    """The markers of a text.

    Attributes:
        spans: Start and end of each, in order; those that overlap or touch are one.
        by_convention: How many each convention found that found any; one that two know counts for each.

    """

    spans: tuple[Span, ...] = ()
    by_convention: tuple[tuple[str, int], ...] = ()

    def counts(self, conventions: Sequence[Convention]) -> dict[str, int]:
        """The number found by each of ``conventions``, which were searched with."""
        return {convention.name: 0 for convention in conventions} | dict(self.by_convention)


_NONE = Markers()


@dataclass(frozen=True)
class Collapsed:
    """A text whose markers were shortened, and the way back to the offsets of the original.

    Attributes:
        text: The shortened text.
        spans: Start and end of each marker in the original, in order, not overlapping.
        short: Start and end of each marker in ``text``.

    """

    text: str
    spans: tuple[Span, ...]
    short: tuple[Span, ...]

    def to_original(self, position: int, *, end: bool = False) -> int:
        """Maps an offset of ``text`` to the original.

        Args:
            position: Offset into ``text``.
            end: The offset is the end of a span; inside a marker it then maps to the marker's end.

        """
        i = bisect_right(self.short, (position, -1 if end else len(self.text) + 1)) - 1
        if i < 0:
            return position
        if position < self.short[i][1]:
            return self.spans[i][1 if end else 0]
        return self.spans[i][1] + position - self.short[i][1]


def timed_spans(pattern: Any, text: str, seconds: float, *, empty: bool = False) -> Iterator[Span]:
    """Spans of a pattern of the library ``regex``, which raises TimeoutError after ``seconds``."""
    return (m.span() for m in pattern.finditer(text, timeout=seconds) if empty or m.end() > m.start())


def _may_match(convention: Convention, text: str, ascii_only: bool) -> bool:
    if not convention.hints:
        return True
    # A loop, since any() with a generator takes as long as the search itself.
    for hint in convention.ascii_hints if ascii_only else convention.hints:  # noqa: SIM110
        if hint in text:
            return True
    return False


def has_marker(text: str, conventions: Sequence[Convention]) -> bool:
    """Whether a text holds a marker; fast where it holds none."""
    ascii_only = text.isascii()
    for c in conventions:  # noqa: SIM110 (a generator is slower)
        if _may_match(c, text, ascii_only) and (c.spans(text) if c.timed else c.pattern.search(text)):
            return True
    return False


def scan(text: str, conventions: Sequence[Convention]) -> Markers:
    """Finds every marker once, for all that is asked about them later."""
    ascii_only = text.isascii()
    found = [(c.name, spans) for c in conventions if _may_match(c, text, ascii_only) and (spans := c.spans(text))]
    if not found:
        return _NONE
    # Most texts hold markers of one convention: what is in order needs no sorting.
    every = found[0][1] if len(found) == 1 else sorted(span for _, spans in found for span in spans)
    return Markers(_merged(every), tuple((name, len(_merged(spans))) for name, spans in found))


def _merged(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Markers that overlap or touch are one; ``spans`` is in order."""
    merged: list[Span] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def find_markers(text: str, conventions: Sequence[Convention]) -> list[Span]:
    """Start and end of every marker, in order; markers that overlap or touch are one."""
    return list(scan(text, conventions).spans)


def residual_markers(text: str, conventions: Sequence[Convention]) -> int:
    """Number of markers in a text; 0 is what may enter a batch."""
    return len(scan(text, conventions).spans)


def counts(text: str, conventions: Sequence[Convention]) -> dict[str, int]:
    """Number of markers by convention; one that two conventions know counts for each."""
    return scan(text, conventions).counts(conventions)


def collapse(text: str, conventions: Sequence[Convention], mark: str | None = MARK) -> Collapsed:
    """Shortens every marker.

    Args:
        text: Any text.
        conventions: What counts as a marker.
        mark: Replaces each marker; None keeps the first four characters of those that are markers by these alone.

    Returns:
        The shortened text with its offsets.

    """
    spans = scan(text, conventions).spans
    return _collapsed(text, spans, [mark if mark is not None else _shorten(text[a:b], conventions) for a, b in spans])


def collapse_spans(text: str, spans: Sequence[Span]) -> Collapsed:
    """:func:`collapse` to :data:`MARK` of a text whose markers were found already."""
    return _collapsed(text, spans, [MARK] * len(spans))


def _collapsed(text: str, spans: Sequence[Span], new: Sequence[str]) -> Collapsed:
    parts: list[str] = []
    short: list[Span] = []
    done = length = 0
    for (start, end), mark in zip(spans, new, strict=True):
        length += start - done
        parts += [text[done:start], mark]
        short.append((length, length + len(mark)))
        length += len(mark)
        done = end
    return Collapsed("".join(parts) + text[done:], tuple(spans), tuple(short))


def _shorten(marker: str, conventions: Sequence[Convention]) -> str:
    head = marker[:4].rstrip()
    return head if find_markers(head, conventions) == [(0, len(head))] else marker
