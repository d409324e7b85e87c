"""Cuts a report into headers, sentences and the blanks between them. Cutting too little is safe, cutting wrong is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cxrguard.sanitizer.conventions import MARK

_BLANKS = re.compile(r"\s+")
_HEADER = re.compile(r"(?:[A-Z][A-Z /()&,-]{2,60}|Findings?|Impression|Indication|History|Comparison|Technique|Clinical [Hh]istory):")
# A stop after these ends no sentence; "no. 3" is a number. Not splitting only means that more is dropped.
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:drs?|mrs?|ms|st|vs|approx|e\.g|i\.e|cf|jr|sr|pt|prof|rt|lt)\.$", re.IGNORECASE)
_CLOCK = re.compile(r"\b[ap]\.m\.$", re.IGNORECASE)
_NUMBER_SIGN = re.compile(r"(?:^|\s)no\.$", re.IGNORECASE)
_ITEM_NUMBER = re.compile(r"\d{1,2}[.)]|[-*•]")
_LIST_ITEM = re.compile(r"(?:\d{1,2}[.)]|[-*•])\s")
# A lower-case word after a stop may go on with a negated list ("No ___. pneumothorax"), but these words do not.
_LOWER_START = re.compile(r"(?:the|there|no|heart|lungs|d/w|discussed|findings|results|patient|left|right)\b")
# A new line before a capitalised word starts a sentence, unless the line before ends on a word that asks for more.
_NEW_LINE_START = re.compile(r"[A-Z][a-z]+")
_ASKS_FOR_MORE = re.compile(
    r"\b(?:of|in|on|at|by|for|from|with|to|the|an?|and|or|no|not|is|are|was|were|than|since|as|per|via|dr|mr|mrs|ms|left|right|new|stable|mild)[.,]?$|[,(/-]$",
    re.IGNORECASE,
)
_WINDOW = 80


@dataclass(frozen=True)
class Piece:
    """A header, a sentence (its list number included) or blanks, with its place in the text."""

    kind: Literal["header", "sentence", "blank"]
    text: str
    start: int

    @property
    def end(self) -> int:
        """Offset just after the piece."""
        return self.start + len(self.text)


def split_pieces(text: str) -> list[Piece]:
    """Cuts ``text`` so that the pieces' texts, joined, are ``text`` again."""
    pieces: list[Piece] = []
    start = 0
    for blank in _BLANKS.finditer(text):
        if blank.start() == start or _ends_sentence(text, start, blank.start(), blank.end()):
            pieces += _with_header(text, start, blank.start())
            pieces.append(Piece("blank", blank.group(), blank.start()))
            start = blank.end()
    pieces += _with_header(text, start, len(text))
    return pieces


def _with_header(text: str, start: int, end: int) -> Iterator[Piece]:
    if start == end:
        return
    header = _HEADER.match(text, start, end)
    if header:
        yield Piece("header", header.group(), start)
        start = header.end()
        blank = _BLANKS.match(text, start, end)
        if blank:
            yield Piece("blank", blank.group(), start)
            start = blank.end()
    if start < end:
        yield Piece("sentence", text[start:end], start)


def _ends_sentence(text: str, start: int, left: int, right: int) -> bool:
    """Whether the blanks ``text[left:right]`` end the sentence that began at ``start``."""
    lines = text.count("\n", left, right)
    following = text[right : right + _WINDOW]
    if lines >= 2 or (lines and (_LIST_ITEM.match(following) or _HEADER.match(following))):
        return True
    if lines and _NEW_LINE_START.match(following) and not _ASKS_FOR_MORE.search(text[max(start, left - _WINDOW) : left]):
        return True
    before = text[max(start, left - _WINDOW) : left].rstrip("\"')]")
    if not before.endswith((".", "?", "!")) or (left - start <= 3 and _ITEM_NUMBER.fullmatch(before)):
        return False
    if before.endswith(f"{MARK}.") and not following[:1].isdigit():
        return True
    if _NUMBER_SIGN.search(before) and following[:1].isdigit():
        return False
    if _ABBREVIATION.search(before) or (_CLOCK.search(before) and not following[:1].isupper()):
        return False
    return not following[:1].islower() or bool(_LOWER_START.match(following)) or following.startswith(MARK)
