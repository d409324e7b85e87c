"""The facts of a sentence: its words in order, each with what its clause and segment say of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from cxrguard.sanitizer.fact_check import lexicon as lx
from cxrguard.sanitizer.fact_check.scopes import Chunk, capped, chunks, ends_at_comma, looks_back, masked_cue, undecided
from cxrguard.sanitizer.fact_check.sentences import sentences
from cxrguard.sanitizer.fact_check.tokens import Token, completes, tokenize

_CARRIERS = frozenset((lx.SIDE, lx.CHANGE, lx.QUALIFIER, lx.NUMBER))
# Words that bring nothing into the order of facts.
_SILENT = frozenset((lx.FREE, lx.UNIT, lx.NEGATION))
Words = tuple[str, ...]
_ENDS_PHRASE = frozenset((lx.WEAK, lx.HEDGE))
_MASKED = ("masked",)
_NOTHING: tuple[Words, Words, Words, Words, Words] = ((), (), (), (), ())


class Fact(NamedTuple):
    """A word and what is said of it.

    Attributes:
        word: Canonical form; of a number with its unit.
        kind: ``content``, ``side``, ``change``, ``qualifier``, ``number``, or ``hedge`` and ``weak`` for words that only keep the order.
        negated: Whether it is denied.
        hedge: The words that make it uncertain.
        sides: Sides named in its segment.
        changes: Change words of its segment.
        qualifiers: What a denial is restricted to ("no large effusion"); empty where nothing is denied.
        numbers: Numbers with units of its segment.
        loose: Those of its numbers that may go without it: beside a marker, ages, dates.

    """

    word: str
    kind: str
    negated: bool = False
    hedge: Words = ()
    sides: Words = ()
    changes: Words = ()
    qualifiers: Words = ()
    numbers: Words = ()
    loose: Words = ()


class Reading(NamedTuple):
    """One sentence as the check sees it.

    Attributes:
        facts: In order.
        negations: How many negating words there are.
        says: Whether any of the facts is more than a word that keeps the order.

    """

    facts: tuple[Fact, ...]
    negations: int
    says: bool


def facts(text: str) -> Counter[Fact]:
    """Multiset of the facts of a text, one entry a mention."""
    return Counter(fact for sentence in sentences(text) for fact in read(sentence).facts if fact.kind not in (lx.WEAK, lx.HEDGE))


@lru_cache(maxsize=1 << 14)
def read(sentence: str) -> Reading:
    """Reads one sentence."""
    tokens = tokenize(sentence)
    parts = chunks(tokens)
    polarity = _polarity(tokens, parts)
    hedges = _hedges(tokens, parts)
    for i in undecided(tokens, parts):
        hedges[i] = capped(hedges[i], "denied?")
    _alternatives(tokens, parts, polarity, hedges)
    negations = [token.kind for token in tokens].count(lx.NEGATION)
    found = tuple(_facts(tokens, parts, polarity, hedges))
    return Reading(found, negations, any(fact.kind != lx.WEAK for fact in found))


def _polarity(tokens: list[Token], parts: Sequence[Chunk]) -> list[bool]:
    """Whether each token is denied, by one pass forward and one back."""
    denied = [False] * len(tokens)
    cues = [i for i, token in enumerate(tokens) if token.kind == lx.NEGATION or token.text in ("resolved", "resolution", "cleared")]
    if not cues:
        return denied
    back = {i for i in cues if looks_back(tokens, i)}
    only_next = -1
    forward: set[int] = set()
    stops = {i for i in cues if ends_at_comma(tokens, i)}
    cue_set = set(cues)
    for part in parts:
        if part.lead == "," and only_next == -2:
            forward.discard(part.clause)
        for i in range(part.start, part.end):
            if i in cue_set:
                if tokens[i].text == "non":
                    only_next = i + 1
                elif tokens[i].text not in ("resolved", "cleared") or i not in back:
                    forward.add(part.clause)
                    only_next = -2 if i in stops else only_next
            else:
                denied[i] = part.clause in forward or i == only_next
    _look_back(denied, parts, back)
    return denied


def _look_back(denied: list[bool], parts: Sequence[Chunk], back: set[int]) -> None:
    clauses: set[int] = set()
    for part in reversed(parts):
        for i in range(part.end - 1, part.start - 1, -1):
            if i in back:
                clauses.add(part.clause)
            elif part.clause in clauses:
                denied[i] = True


def _hedges(tokens: list[Token], parts: Sequence[Chunk]) -> list[Words]:
    """The hedges of each token."""
    hedges: list[Words] = [()] * len(tokens)
    cues = {i: token.word for i, token in enumerate(tokens) if token.kind == lx.HEDGE}
    cues |= {i: "masked" for i, token in enumerate(tokens) if token.kind == lx.MARKER and masked_cue(tokens, i)}
    if cues:
        active: defaultdict[int, Words] = defaultdict(tuple)
        local: Words = ()  # Of "appears" and of a masked cue: the next word alone.
        for part in parts:
            local = local if local == _MASKED else ()
            for i in range(part.start, part.end):
                if i in cues and cues[i] not in lx.LOCAL_HEDGES:
                    active[part.clause] = capped(active[part.clause], cues[i])
                elif i in cues:
                    local = (cues[i],)
                hedges[i] = active[part.clause] + local
                local = () if tokens[i].kind == lx.CONTENT else local
        active.clear()
        for part in reversed(parts):
            for i in range(part.end - 1, part.start - 1, -1):
                if i in cues and looks_back(tokens, i):
                    active[part.clause] = capped(active[part.clause], cues[i])
                elif active[part.clause]:
                    hedges[i] += active[part.clause]
    return hedges


def _alternatives(tokens: list[Token], parts: Sequence[Chunk], denied: Sequence[bool], hedges: list[Words]) -> None:
    """Either side of "or" is uncertain, where no other hedge says so already."""
    for before, after in pairwise(parts):
        if after.lead not in ("or", "versus") or any(denied[after.start : after.end]):
            continue
        # Only the nearest phrase on either side; a masked alternative needs no "or".
        for steps in (range(before.end - 1, before.start - 1, -1), range(after.start, after.end)):
            if steps and tokens[steps[0]].kind == lx.MARKER:
                continue
            for i in steps:
                if tokens[i].kind in _ENDS_PHRASE or tokens[i].text in lx.VERBS:
                    break
                hedges[i] = hedges[i] or ("or",)


def _facts(tokens: list[Token], parts: Sequence[Chunk], denied: list[bool], hedges: list[Words]) -> Iterator[Fact]:
    carried = _carried(tokens, parts)
    done = 0
    for part in parts:
        for token in tokens[done : part.start]:  # Separators.
            if token.word[0].isalpha() and token.word not in ("and", "or", "versus"):
                yield _plain(token.word, lx.WEAK)
        done = part.end
        sides, changes, qualifiers, numbers, loose = carried.get(part.segment, _NOTHING)
        for i in range(part.start, part.end):
            token, no, hedge = tokens[i], denied[i], hedges[i]
            kind = token.kind
            if kind == lx.CONTENT:
                yield Fact(token.word, kind, no, hedge, sides, changes, qualifiers if no else (), numbers, loose)
            elif kind in _CARRIERS:
                yield Fact(token.word, kind, no, hedge)
            elif kind == lx.MARKER:
                for kind, word in map(lx.lookup, completes(tokens, i)):
                    said = (no, hedge, sides, changes, qualifiers if no else (), numbers, loose) if kind == lx.CONTENT else ()
                    yield Fact(word, kind, *said)
            elif kind not in _SILENT:
                yield _plain(token.word, lx.HEDGE if kind == lx.HEDGE else lx.WEAK)


@lru_cache(maxsize=1 << 10)
def _plain(word: str, kind: str) -> Fact:
    return Fact(word, kind)


def _carried(tokens: list[Token], parts: Sequence[Chunk]) -> dict[int, tuple[Words, Words, Words, Words, Words]]:
    """Sides, changes, qualifiers, numbers and loose numbers of each segment that has any."""
    found: defaultdict[int, list[Token]] = defaultdict(list)
    for part in parts:
        for i in range(part.start, part.end):
            if tokens[i].kind in _CARRIERS:
                found[part.segment].append(tokens[i])
    return {segment: _sorted(carriers) for segment, carriers in found.items()}


def _sorted(carriers: Sequence[Token]) -> tuple[Words, Words, Words, Words, Words]:
    kinds: dict[str, list[str]] = {lx.SIDE: [], lx.CHANGE: [], lx.QUALIFIER: [], lx.NUMBER: [], "loose": []}
    for token in carriers:
        kinds["loose" if token.optional else token.kind].append(token.word)
    sides, changes, qualifiers, numbers, loose = (tuple(sorted(words)) for words in kinds.values())
    return sides, changes, qualifiers, numbers, loose
