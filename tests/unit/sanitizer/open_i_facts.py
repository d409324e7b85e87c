"""Sentences and facts of a report, for the measures on Open-I: a splitter of its own, and the fact reader."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from cxrguard.sanitizer.conventions import MARK
from cxrguard.sanitizer.fact_check import Fact
from cxrguard.sanitizer.fact_check.lexicon import lookup
from cxrguard.sanitizer.fact_check.reading import read

FACTS = ("content", "side", "change", "qualifier", "number")

_GAP = re.compile(rf"(?<=[.!?])[\"')\]]*\s+|(?<=[a-z{MARK})]\.)(?=[A-Z{MARK}][a-z{MARK}])|\s*\n\s*(?=[A-Z\d])")
_NO_END = re.compile(r"(?:\b(?:drs?|mrs?|ms|vs|approx)\.|(?:^|\s)\d{1,2}[.)])\s*$", re.IGNORECASE)
_NO_END_BEFORE = re.compile(r"\b(?:[ap]\.m|no)\.\s*$", re.IGNORECASE)


def split_sentences(text: str) -> list[str]:
    """Sentences without the blanks around them; a list number stays with its sentence."""
    found, start = [], 0
    for gap in _GAP.finditer(text):
        before = text[start : gap.start()]
        lower = not text[gap.end() : gap.end() + 1].isupper()
        if _NO_END.search(before) or (lower and _NO_END_BEFORE.search(before)):
            continue
        found.append(before)
        start = gap.end()
    return [sentence.strip() for sentence in [*found, text[start:]] if sentence.strip()]


WORD = re.compile(
    rf"[^\W_]*{MARK}[^\W_]*(?:{MARK}[^\W_]*)*|\b[a-z]/[a-z]\b|\d+(?:[.:/]\d+)*[^\W\d_]*|[^\W_]+(?:['’][^\W_]+)?|[^\w\s]", re.IGNORECASE
)
NUMBERED = re.compile(r"^\d{1,2}[.)]\s+")  # A list number is no fact: lists are numbered anew.
Key = tuple[str, str, bool, tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def key(fact: Fact) -> Key:
    """What must stay the same: numbers are facts of their own, and one beside a marker may go."""
    return fact.word.removesuffix(" ?"), fact.kind, fact.negated, fact.hedge, fact.sides, fact.changes, fact.qualifiers


def words(sentence: str) -> list[str]:
    return [word.lower() for word in WORD.findall(sentence)]


def located(sentence: str) -> list[tuple[Fact, int]]:
    """Facts with the place of their word in :func:`words`; a word that the reader supposes behind a marker has none and is left out."""
    sentence = NUMBERED.sub("", sentence)
    facts = [fact for fact in read(sentence).facts if fact.kind in FACTS and MARK not in fact.word]
    tokens = [lookup(word)[1] if word[0].isalnum() and MARK not in word else word for word in words(sentence)]
    blocks = SequenceMatcher(None, [fact.word.split()[0] for fact in facts], tokens, autojunk=False).get_matching_blocks()
    return [(facts[block.a + i], block.b + i) for block in blocks for i in range(block.size)]
