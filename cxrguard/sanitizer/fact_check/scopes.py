"""Which words a cue speaks of: clauses for "no" and "possible", segments for sides, numbers and changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cxrguard.sanitizer.fact_check import lexicon as lx
from cxrguard.sanitizer.fact_check.tokens import Token, completes

_FORWARD_ONLY = frozenset(
    ("no", "without", "denies", "deny", "denied", "free of", "lack", "lacks", "lacking", "non", "nor", "neither", "rather")
)
_FORWARD_ONLY_HEDGES = frozenset(("if", "whether", "or", "r/o", "rule", "evaluate", "appear", "seem"))
_TRANSPARENT = frozenset((lx.MARKER, lx.FREE))
_EXCEPT = ("aside", "apart", "except", "other")
_CLOSED = "),"  # The end of a remark in brackets, and a comma or the like: what comes next is apart as after any other.
_BEGINS = frozenset(("the", "there", "this", "these", "that", "a", "an", "his", "her", "he", "she", "patient", "it", "and", "but"))
_LIMIT = 8  # Hedges kept by name for one word; hostile text has more.


@dataclass(slots=True)
class Chunk:
    """Tokens between two separators, with what decides which clause and which segment they belong to."""

    lead: str
    start: int
    end: int = 0
    hard: bool = False
    compare: bool = False
    content: bool = False
    verb: bool = False
    predicate: bool = False
    cue: bool = False
    place: bool = False
    clause: int = 0
    segment: int = 0


def chunks(tokens: Sequence[Token]) -> list[Chunk]:
    """Cuts a sentence at its separators and gives each piece its clause and segment."""
    found: list[Chunk] = []
    current = Chunk("", 0)
    for i, token in enumerate(tokens):
        kind = token.kind
        compare = kind == lx.COMPARE and not current.compare
        opens = token.text in lx.OPENERS or token.word == "without"
        cut = opens or kind == lx.HARD or compare or (kind == lx.SEPARATOR and (not current.compare or token.word in ",()"))
        # "Opacity since MARK could be due to": the aside ends with its marker.
        resumes = not cut and current.compare and tokens[i - 1].kind == lx.MARKER and token.text in lx.VERBS | lx.COPULAS
        if not (cut or resumes):
            continue
        stays = resumes or compare or opens or token.word == "there"  # The word belongs to what it opens.
        current.end = i
        if current.start < i or not found:
            _describe(current, tokens)
            found.append(current)
            current = Chunk("" if resumes else token.word, i + (not stays), hard=kind == lx.HARD, compare=compare)
        else:
            hard = current.hard or kind == lx.HARD
            current = Chunk(_lead(current.lead, token.word), i + (not stays), hard=hard, compare=compare)
    current.end = len(tokens)
    _describe(current, tokens)
    found.append(current)
    _assign_clauses(found)
    _assign_segments(found)
    return found


def _lead(first: str, second: str) -> str:
    if second in lx.OPENERS:
        return second
    if first == ")" and second not in ("(", "or", "versus", "with", "and"):
        return _CLOSED
    for word in ("(", ")", "or", "versus"):
        if word in (first, second):
            return word
    return second if first == "," else first


def _describe(chunk: Chunk, tokens: Sequence[Token]) -> None:
    subject = False
    for i in range(chunk.start, chunk.end):
        token = tokens[i]
        if token.kind in (lx.NEGATION, lx.HEDGE):
            chunk.cue = True
        if token.kind == lx.CONTENT:
            chunk.content = True
            chunk.predicate = chunk.predicate or chunk.verb
        if token.text in lx.VERBS and (subject or token.text in ("demonstrates", "shows")):
            chunk.verb = True
        subject = subject or token.kind != lx.FREE or token.text == "there"
    chunk.place = chunk.start < chunk.end and tokens[chunk.start].text in lx.PLACES


def _assign_clauses(found: list[Chunk]) -> None:
    clause = top = outer = 0
    verb = cue = False
    for i, chunk in enumerate(found):
        new = chunk.hard or chunk.lead == "(" or (i > 0 and _opens_clause(chunk, verb, cue))
        if chunk.lead == "(":
            outer = clause
        elif chunk.lead in (")", _CLOSED):
            clause = outer
        if chunk.compare:  # An aside: what stood before goes on after it.
            top += 1
            chunk.clause = top
            continue
        if new and i:
            top += 1
            clause, verb, cue = top, False, False
        chunk.clause = clause
        verb, cue = verb or chunk.verb, cue or chunk.cue


def _opens_clause(chunk: Chunk, verb: bool, cue: bool) -> bool:
    if chunk.lead in ("or", "versus", "with", ")") or not chunk.verb:
        return False
    return verb or (chunk.lead in (",", _CLOSED) and cue and chunk.predicate)


def _assign_segments(found: list[Chunk]) -> None:
    """Each chunk is a segment, but one without a content word, or a place after a comma, belongs to its neighbour."""
    waiting = True  # Nothing but sides, numbers and changes came so far: they belong to what comes.
    current = outer = 0
    for i, chunk in enumerate(found):
        if chunk.compare:
            chunk.segment, waiting = i, False
            if chunk.lead == "(":  # All in these brackets is of the aside.
                outer, current = current, i
            continue
        if chunk.lead == "(":
            outer = current
        waiting = waiting and chunk.lead not in _EXCEPT
        joins = waiting or not chunk.content or (chunk.place and chunk.lead in (",", _CLOSED))
        current = outer if chunk.lead == ")" or (joins and chunk.lead == _CLOSED) else current if joins else i
        chunk.segment = current
        waiting = waiting and (not chunk.content or (chunk.place and not chunk.verb and i == 0))


def masked_cue(tokens: Sequence[Token], i: int) -> bool:
    """Whether the marker at ``i`` may have hidden a "no", "not" or "possibly" of words that stay."""
    if i + 1 >= len(tokens) or completes(tokens, i):
        return False
    after = tokens[i + 1].text
    if after in lx.AFTER_MASKED_CUE:
        return not any(token.kind == lx.NEGATION for token in tokens[max(0, i - 3) : i])
    if not i or tokens[i - 1].text not in lx.COPULAS:
        return False
    predicate = i > 1 and tokens[i + 1].kind == lx.CONTENT and tokens[i - 2].text != "there"  # "The mass is MARK malignant."
    return after in lx.SEEN or after == "of" or predicate


def looks_back(tokens: Sequence[Token], i: int) -> bool:
    """Whether the cue at ``i`` speaks of what stands before it: "effusion is not seen in", "mass cannot be excluded."."""
    token = tokens[i]
    masked = False
    if token.word in _FORWARD_ONLY or token.word in _FORWARD_ONLY_HEDGES:
        return False
    if token.word == "suggest" and i and tokens[i - 1].text == "to":
        return False  # "No consolidation to suggest MARK"
    for following in tokens[i + 1 : i + 8]:
        masked = masked or following.kind == lx.MARKER
        if following.kind in _TRANSPARENT or following.text in lx.SEEN or (following.kind == lx.WEAK and following.text in lx.COPULAS):
            continue
        if following.kind == lx.WEAK:
            return following.text not in lx.GOVERNING
        if masked and token.kind == lx.HEDGE and following.word in ("or", "versus"):
            return False  # "may be MARK or due to technique"
        return following.kind in (lx.SEPARATOR, lx.HARD, lx.COMPARE) and following.word != "with"
    return True


def ends_at_comma(tokens: Sequence[Token], i: int) -> bool:
    """Whether the object of the negation at ``i`` is a marker alone ("No MARK, effusion on the left") and no list goes on."""
    if [token.kind for token in tokens[i + 1 : i + 2]] != [lx.MARKER]:
        return False
    j = i + 1
    while j < len(tokens) and tokens[j].kind == lx.MARKER:
        j += 1
    if j >= len(tokens) or tokens[j].word != ",":
        return False
    return not any(token.text in ("or", "nor") for token in tokens[j : j + 40])


def undecided(tokens: Sequence[Token], parts: Sequence[Chunk]) -> list[int]:
    """Tokens of which a masked "no MARK, effusion" leaves open whether they are denied: neither "effusion" nor "no effusion" is safe."""
    found: list[int] = []
    open_ended = False
    for part in parts:
        # "No MARK, the lungs are clear.": a sentence of its own.
        open_ended = open_ended and not part.hard and tokens[part.start : part.end] != [] and tokens[part.start].word not in _BEGINS
        if open_ended:
            found += range(part.start, part.end)
        open_ended = open_ended or any(tokens[i].kind == lx.NEGATION and ends_at_comma(tokens, i) for i in range(part.start, part.end))
    return found


def capped(cues: tuple[str, ...], cue: str) -> tuple[str, ...]:
    """``cues`` with one more; only the first few by name."""
    return (*cues, cue) if len(cues) < _LIMIT else cues
