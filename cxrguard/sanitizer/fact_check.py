"""A second, independent look: does a sanitized prompt say anything its original did not?

A first cut: some twenty finding terms and a small NegEx-like scope rule. It shares no code with ``repair.py``, so that one
bug cannot hide in both. It finds facts that were added, flipped, hardened, moved to another side or given another
number; it says nothing about facts that were dropped (dropping is allowed) nor about findings it has no term for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

Fact = tuple[str, bool, bool, tuple[str, ...]]

FINDINGS = re.compile(
    r"\b(pneumothora|effusion|consolidat|pneumonia|edema|atelecta|opacit|opacif|cardiomegal|nodul|mass(?:es)?\b|fractur|"
    r"infiltrat|emphysem|congestion|hernia|granulom|scar|fibros|thicken|enlarge|infection|collapse|hyperinflat)",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(no|not|without|free of|negative for|denies|absen\w+|never|nor|neither|resolved|resolution|clear of)\b", re.IGNORECASE
)
_NEGATION_ENDS = re.compile(r"\b(but|however|although|except|there (?:is|are))\b", re.IGNORECASE)
_HEDGE = re.compile(
    r"\b(may|might|could|can|cannot|possibl\w+|probabl\w+|likely|unlikely|suspicious|suspected|suspicion|suggest\w*|concern\w*|"
    r"question\w*|versus|vs|or|if|whether|exclude\w*|rule out|consider\w*|compatible|consistent|favor\w*|appear\w*|equivocal)\b",
    re.IGNORECASE,
)
_SIDE = re.compile(r"\b(left|right|bilateral)", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])(\d+(?:[.:/]\d+)*)(?:[ -]?(mm|cm|ml|m|%|french|degrees?|x|years?)\b)?", re.IGNORECASE)
_CLAUSE = re.compile(r"[;!?\n]|\.(?!\d)|, (?:and|but) (?=there )")
_BROKEN_SIZE = re.compile(r"(?:\bx|×) ?(?:cm|mm)\b", re.IGNORECASE)


def facts(text: str) -> Counter[Fact]:
    """Multiset of (finding, negated, hedged, sides), one entry a mention."""
    return Counter(fact for clause in _CLAUSE.split(text) for fact in _clause_facts(clause))


def _clause_facts(clause: str) -> Iterator[Fact]:
    mentions = list(FINDINGS.finditer(clause))
    if not mentions:
        return
    hedged = bool(_HEDGE.search(clause))
    sides = tuple(sorted({m.group().lower() for m in _SIDE.finditer(clause)}))
    negations = [m.start() for m in _NEGATION.finditer(clause)]
    ends = [m.start() for m in _NEGATION_ENDS.finditer(clause)]
    # One pass for both lists: a clause may be a megabyte.
    n = e = 0
    for mention in mentions:
        while n < len(negations) and negations[n] < mention.start():
            n += 1
        while e < len(ends) and ends[e] < mention.start():
            e += 1
        last_negation = negations[n - 1] if n else -1
        negated = n > 0 and (e == 0 or ends[e - 1] < last_negation)
        yield mention.group().lower(), negated, hedged, sides


def numbers(text: str) -> Counter[tuple[str, str]]:
    """Multiset of (number, unit); a number before an ``x`` has the unit ``x``."""
    return Counter((m.group(1), (m.group(2) or "").lower()) for m in _NUMBER.finditer(text))


def keeps_facts(original: str, sanitized: str) -> bool:
    """Whether every fact and number of ``sanitized`` is one of ``original``'s, mention by mention.

    Args:
        original: The text before, its markers collapsed to one character each or not.
        sanitized: The text after.

    Returns:
        False if a fact was added or changed, or a measurement lost a part: the caller must then refuse.

    """
    if len(_BROKEN_SIZE.findall(sanitized)) > len(_BROKEN_SIZE.findall(original)):
        return False
    return facts(sanitized) <= facts(original) and numbers(sanitized) <= numbers(original)
