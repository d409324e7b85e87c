"""Original against sanitized: each sentence that changed must be one original sentence with whole facts left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from cxrguard.sanitizer.conventions import MARK
from cxrguard.sanitizer.fact_check import lexicon as lx
from cxrguard.sanitizer.fact_check.reading import Fact, Reading, read
from cxrguard.sanitizer.fact_check.sentences import normal_form, sentences

# A longer sentence that changed is refused unread.
LONGEST = 2000
# So far ahead an unchanged sentence is looked for before the sentences passed over are read.
_AHEAD = 8
_REASONS = {lx.NUMBER: "number", lx.SIDE: "side", lx.CHANGE: "change", lx.HEDGE: "hedge"}

_CODES = {"negated": "polarity", "hedge": "hedge", "sides": "side", "changes": "change", "qualifiers": "qualifier"}
# Markers as they were written, for callers that did not replace them.
_RAW = re.compile(r"_{2,}|\[\*\*[^\]\n]{0,80}\]?|\bX{4,}\b")


def keeps_facts(original: str, sanitized: str) -> bool:
    """Whether ``sanitized`` says nothing that ``original`` does not; facts left out whole are no change.

    Args:
        original: The text before, its markers replaced by one ``MARK`` each, or as they were.
        sanitized: The text after.

    Returns:
        False if a fact was gained or changed, or if that could not be told: the caller must then refuse.

    """
    return why_not(original, sanitized) is None


def why_not(original: str, sanitized: str) -> str | None:
    """The reason for which :func:`keeps_facts` says no, as a code without any text; None if it says yes.

    Returns:
        ``polarity``, ``hedge``, ``side``, ``change``, ``number``, ``qualifier``, ``broken_size``, ``joined`` (words of two sentences
        in one), ``empty`` (words that say nothing), ``gained`` (a word that was not there, or not in this order) or ``too_long``.

    """
    if original == sanitized:
        return None
    if MARK not in original:
        original = _RAW.sub(MARK, original)
    sources, rest = _changed_part(sentences(original), sentences(sanitized))
    at = used = 0  # Sentence of the original that may come next, and how many of its facts are taken.
    for sentence in rest:
        ahead = sources[at + (used > 0) : at + _AHEAD]
        if not any(map(str.isalnum, sentence)):
            continue
        if sentence in ahead:
            at, used = at + (used > 0) + ahead.index(sentence) + 1, 0
            continue
        found = _find(sources, at, used, sentence)
        if isinstance(found, str):
            return found
        at, used = found
    return None


def _changed_part(before: list[str], after: list[str]) -> tuple[list[str], list[str]]:
    """Sentences in normal form, without those at the start and at the end that are the same."""
    first, shorter = 0, min(len(before), len(after))
    while first < shorter and before[first] == after[first]:
        first += 1
    last = 0
    while last < shorter - first and before[-1 - last] == after[-1 - last]:
        last += 1
    return (
        [normal_form(sentence) for sentence in before[first : len(before) - last]],
        [normal_form(sentence) for sentence in after[first : len(after) - last]],
    )


def _find(sources: Sequence[str], at: int, used: int, sentence: str) -> tuple[int, int] | str:
    """Where the first original sentence stands that ``sentence`` is a part of, and how far it is then used; or why none is."""
    if len(sentence) > LONGEST:
        return "too_long" if sentence not in sources[at:] else (sources.index(sentence, at) + 1, 0)
    wanted = read(sentence)
    if wanted.negations and not wanted.says:
        return "empty"  # A bare "No" would deny what comes next.
    for i in range(at, len(sources)):
        if len(sources[i]) > LONGEST:
            continue
        source = read(sources[i])
        end = _embed(source, wanted, used if i == at else 0)
        if end >= 0:
            return i, max(end, 1)
    return _reason([read(source) for source in sources if len(source) <= LONGEST], wanted)


def _embed(source: Reading, wanted: Reading, start: int) -> int:
    """Number of facts of ``source`` used up when those of ``wanted`` are found among them in order; -1 if they are not."""
    if wanted.negations > source.negations or (source.says and not wanted.says):
        return -1
    have, i = source.facts, start
    n = len(have)
    for fact in wanted.facts:
        while i < n and have[i] != fact and not _same(have[i], fact):
            i += 1
        if i == n:
            return -1
        i += 1
    return i


def _same(before: Fact, after: Fact) -> bool:
    """Whether only numbers differ that may go; that none came is seen by the numbers themselves, which are facts too."""
    if before[:-2] != after[:-2]:
        return False
    return Counter(before.numbers) <= Counter(after.numbers + after.loose)


def _reason(sources: Sequence[Reading], wanted: Reading) -> str:
    if not wanted.says:
        return "empty"
    words = [fact.word for fact in wanted.facts]
    for source in sources:
        if _within(words, [fact.word for fact in source.facts]):
            return _difference(source, wanted)
    known = Counter(fact.word for source in sources for fact in source.facts)
    for fact in wanted.facts:
        if not known[fact.word]:
            return "broken_size" if "?" in fact.word and fact.kind == lx.WEAK else _REASONS.get(fact.kind, "gained")
    if _within(words, [fact.word for source in sources for fact in source.facts]):
        return "joined"
    return "gained"


def _within(words: Sequence[str], others: Sequence[str]) -> bool:
    rest = iter(others)
    return all(word in rest for word in words)


def _difference(source: Reading, wanted: Reading) -> str:
    """Which attribute of a kept word differs."""
    rest = iter(source.facts)
    for fact in wanted.facts:
        before = next(other for other in rest if other.word == fact.word)
        if before == fact or _same(before, fact):
            continue
        return next((code for name, code in _CODES.items() if getattr(before, name) != getattr(fact, name)), "number")
    return "polarity"
