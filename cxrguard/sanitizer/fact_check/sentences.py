"""Where sentences end, by rules that rather split too often: both texts are split alike, and only a joint that vanished counts."""

from __future__ import annotations

import re
from functools import lru_cache

from cxrguard.sanitizer.conventions import MARK

# A full stop counts before a space or where the next sentence was glued on, not in "3.2" nor after the abbreviations below. A line
# ends a sentence before a blank line, a capital or a list number. A marker before a capitalised word may have swallowed the stop.
# Each way starts with one character of a set, which the regular expression engine looks for fast.
_BOUNDARY = re.compile(
    rf"[.!?\n{MARK}](?:"
    r"(?:(?<=[.!])|(?<=\w\?))[\"')\]]*+\s++"
    r"|(?<=[a-z]\.)(?=[A-Z])"
    r"|(?<=\n)(?:\s*+(?=[A-Z*•–-]|\d{1,2}[.)]\s)|[^\S\n]*+\n\s*+)"
    rf"|(?<={MARK})[ \t]*+(?!(?:Fr|French|Hospital|Medical|Center|Clinic)\b)(?=[A-Z][a-z]))"
)
_TITLE = re.compile(r"\b(?:Drs?|Mr|Mrs|Ms|St)$", re.IGNORECASE)
_ABBREVIATION = re.compile(r"\b(?:vs|approx|no|[a-z]\.[a-z])$", re.IGNORECASE)
_LIST_NUMBER = re.compile(r"^(?:\d{1,2}[.)]|[*•–-])(?:\s+|$)")

# Begins with its capital, for which it is searched fast; the blank before it is looked at from behind it.
_SECTION = re.compile(
    r"([A-Z](?<!\S.)"
    r"(?:[A-Z /()&,-]{2,40}|(?<=F)indings?|(?<=I)mpression|(?<=I)ndication|(?<=C)omparison|(?<=H)istory|(?<=T)echnique):)[ \t\n]+"
)


def sentences(text: str) -> list[str]:
    """Splits a text; list numbers and empty sentences are left out."""
    found: list[str] = []
    start = 0
    # A header belongs to its section: what stands behind it may go without it, and another sentence may come to stand there.
    if ":" in text:
        text = _SECTION.sub(r"\1\n\n", text)
    for boundary in _BOUNDARY.finditer(text):
        at = boundary.start()
        if text[at] == "." and _abbreviates(text[max(0, at - 8) : at], text[boundary.end() : boundary.end() + 1]):
            continue
        _add(found, text[start : boundary.end()])
        start = boundary.end()
    _add(found, text[start:])
    return found


@lru_cache(maxsize=1 << 14)
def _abbreviates(before: str, after: str) -> bool:
    """Whether the stop between these belongs to an abbreviation; "No. 3" is one, "No. Pneumothorax" is not."""
    if _TITLE.search(before):
        return True
    return (after.islower() or after.isdigit()) and _ABBREVIATION.search(before) is not None


def _add(found: list[str], sentence: str) -> None:
    sentence = sentence.strip()
    if sentence[:1].isdigit() or sentence[:1] in "*•–-":
        sentence = _LIST_NUMBER.sub("", sentence)
    if sentence:
        found.append(sentence)


def normal_form(sentence: str) -> str:
    """White space as single spaces and the first letter small: what a repair may change around a sentence that it keeps."""
    words = " ".join(sentence.split())
    return words[:1].lower() + words[1:]
