"""Cuts a report into headers, sentences and the blanks between them. Cutting too little is safe, cutting wrong is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

from cxrguard.sanitizer.conventions import MARK

_BLANKS = re.compile(r"\s+")
# With the sign before them, by which they are searched fast; what stands before a line break is looked at from there.
_GAP = re.compile(r"[.?!\"')\]\n](?:(?<=\n)|(?=\s))\s*")
_HEADER = re.compile(r"(?:[A-Z][A-Z /()&,-]{2,60}|Findings?|Impression|Indication|History|Comparison|Technique|Clinical [Hh]istory):")
# A stop after these ends no sentence; "no. 3" is a number. Not splitting only means that more is dropped.
ABBREVIATION = r"drs?|mrs?|ms|st|vs|approx|e\.g|i\.e|cf|jr|sr|pt|prof|rt|lt"
_ABBREVIATION = re.compile(rf"(?:^|[\s(])(?:{ABBREVIATION})\.$", re.IGNORECASE)
_CLOCK = re.compile(r"\b[ap]\.m\.$", re.IGNORECASE)
_NUMBER_SIGN = re.compile(r"(?:^|\s)no\.$", re.IGNORECASE)
_ITEM_NUMBER = re.compile(r"\d{1,2}[.)]|[-*•]")
# The first item may stand on its header's line.
_FIRST_ITEM = re.compile(r"[A-Za-z]:\s{1,8}\d{1,2}\.$")
_LIST_ITEM = re.compile(r"(?:\d{1,2}[.)]|[-*•])\s")
# A lower-case word after a stop may go on with a negated list ("No ___. pneumothorax"), but these words do not.
_LOWER_START = re.compile(r"(?:the|there|no|heart|lungs|d/w|discussed|findings|results|patient|left|right)\b")
# A new line before a capitalised word starts a sentence, unless the line before ends on a word that asks for more.
_NEW_LINE_START = re.compile(r"[A-Z][a-z]+")
_ASKS_FOR_MORE = re.compile(
    r"\b(?:of|in|on|at|by|for|from|with|to|the|an?|and|or|no|not|is|are|was|were|than|since|as|per|via|dr|mr|mrs|ms|left|right|new|stable|mild)[.,]?$|[,(/-]$",
    re.IGNORECASE,
)
# Quotes and brackets after a stop are looked over so far back, and no word of the patterns that end on $ is longer than this.
_WINDOW, _LONGEST = 80, 10


class Piece(NamedTuple):
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
    for left, right in _gaps(text):
        if left == start or _ends_sentence(text, start, left, right):
            _add(pieces, text, start, left)
            pieces.append(Piece("blank", text[left:right], left))
            start = right
    _add(pieces, text, start, len(text))
    return pieces


def _gaps(text: str) -> Iterator[tuple[int, int]]:
    """The blanks at the text's start and all others that may end a sentence: most stand between two words and never do."""
    done = 0
    if first := _BLANKS.match(text):
        done = first.end()
        yield 0, done
    for match in _GAP.finditer(text, done):
        left = match.start()
        if text[left] != "\n":
            left += 1
        else:
            while text[left - 1].isspace():
                left -= 1
        yield left, match.end()


def _add(pieces: list[Piece], text: str, start: int, end: int) -> None:
    """Adds what stands between two blanks that end a sentence: the sentence, a header before it, or nothing."""
    header = _HEADER.match(text, start, end)
    if header:
        pieces.append(Piece("header", header.group(), start))
        start = header.end()
        blank = _BLANKS.match(text, start, end)
        if blank:
            pieces.append(Piece("blank", blank.group(), start))
            start = blank.end()
    if start < end:
        pieces.append(Piece("sentence", text[start:end], start))


def _ends_sentence(text: str, start: int, left: int, right: int) -> bool:
    """Whether the blanks ``text[left:right]`` end the sentence that began at ``start``."""
    lines = text.count("\n", left, right)
    if lines and _ends_at_line(text, left, right, lines):
        return True
    first, stop = max(start, left - _WINDOW), left
    while stop > first and text[stop - 1] in "\"')]":
        stop -= 1
    if stop == first or text[stop - 1] not in ".?!" or (left - start <= 3 and _ITEM_NUMBER.fullmatch(text, start, stop)):
        return False
    if text[stop - 1] == "." and _FIRST_ITEM.search(text, max(start, stop - 12), stop):
        return False
    if text[stop - 1] == ".":
        if text.endswith(f"{MARK}.", first, stop) and not text[right : right + 1].isdigit():
            return True
        if _abbreviates(text[max(0, stop - _LONGEST) : stop], text[right : right + 1]):
            return False
    return not text[right : right + 1].islower() or text.startswith(MARK, right) or _LOWER_START.match(text, right) is not None


def _ends_at_line(text: str, left: int, right: int, lines: int) -> bool:
    if lines >= 2 or _LIST_ITEM.match(text, right) or _HEADER.match(text, right):
        return True
    return _NEW_LINE_START.match(text, right) is not None and not _ASKS_FOR_MORE.search(text, max(0, left - _LONGEST), left)


@lru_cache(maxsize=1 << 14)
def _abbreviates(before: str, following: str) -> bool:
    """Whether the stop at the end of ``before`` is an abbreviation's; that is shorter, so a cut there is no start of a word."""
    if following.isdigit() and _NUMBER_SIGN.search(before):
        return True
    return bool(_ABBREVIATION.search(before) or (not following.isupper() and _CLOCK.search(before)))
