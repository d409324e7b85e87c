"""A sentence as tokens, uncertainty read before negation, and numbers with their units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cxrguard.sanitizer.conventions import MARK
from cxrguard.sanitizer.fact_check import lexicon as lx

# A word that a marker is glued to is one token: half a word is no word.
_PLAIN = r"\b[a-z]/[a-z]\b|\d+(?:[.:/]\d+)*+[^\W\d_]*+|[^\W\d_][^\W_]*+(?:['’][^\W_]++)?|[,;:()?\[\]%×+]|(?<=\s)[-–—]+(?=\s)|[–—]"
# Most tokens: at these no other branch need be tried.
_SIMPLE = rf"[a-z]++(?![^\W_]|['’/{MARK}])|"
_TOKEN = re.compile(_SIMPLE + _PLAIN)
_TOKEN_OR_MARKER = re.compile(_SIMPLE + rf"[^\W_]*+{MARK}[^\W_]*+(?:{MARK}[^\W_]*+)*+|(?<={MARK}[/:.])\d+|" + _PLAIN)
_NUMBER = re.compile(r"(\d+(?:[.:/]\d+)*)(.*)", re.DOTALL)
_CHAIN = frozenset((lx.TIMES, lx.NUMBER, lx.MARKER))
_BETWEEN = frozenset((lx.UNIT, lx.FREE, lx.WEAK, lx.TIMES, lx.NUMBER))
_WHOLE = frozenset((lx.FREE, lx.WEAK, lx.SEPARATOR, lx.COMPARE, lx.NEGATION))
_MEASURES = frozenset((lx.NUMBER, lx.UNIT, lx.TIMES))
# What _merge_phrases looks for.
_IN_PHRASES = frozenset((lx.NEGATION, lx.COMPARE))
_NEGATES = frozenset(("no", "not", "cannot", "can't", "without", "couldn't", "never", "nor", "difficult", "to"))
_PHRASES = _NEGATES | {"free", "clear", "other", "rather", "aside", "apart", "except", "there", "if"}
_EXCLUDE = frozenset(("exclude", "excluded", "rule", "ruled"))
_ASPECTS = frozenset(("change", "changes", "changed"))


@dataclass(slots=True)
class Token:
    """A token: what kind of word it is, and its canonical form.

    Attributes:
        kind: One of the kinds of :mod:`.lexicon`.
        word: Canonical form; of a number with its unit.
        text: As written, in lower case.
        optional: A number that may go although its finding stays: beside a marker, an age, a date or a time.

    """

    kind: str
    word: str
    text: str
    optional: bool = False


def tokenize(sentence: str) -> list[Token]:
    """Tokens of one sentence."""
    lowered = sentence.lower()
    lookup = lx.lookup
    if MARK in sentence:
        tokens = [_marked(word) if MARK in word else Token(*lookup(word), word) for word in _TOKEN_OR_MARKER.findall(lowered)]
    else:
        tokens = [Token(*lookup(word), word) for word in _TOKEN.findall(lowered)]
    kinds = {token.kind for token in tokens}
    if not kinds.isdisjoint(_IN_PHRASES) or not _PHRASES.isdisjoint(token.text for token in tokens):
        _merge_phrases(tokens)
    if not kinds.isdisjoint(_MEASURES):
        _read_numbers(tokens)
    return tokens


def _marked(word: str) -> Token:
    """A word that a marker is glued to is half a word, unless the rest is a known word or the sex after an age ("MARKF")."""
    if not word.strip(MARK):
        return Token(lx.MARKER, word, word)
    rest = word.replace(MARK, "")
    kind, canonical = lx.lookup(rest)
    if kind in _WHOLE or rest in ("f", "m"):
        return Token(kind, canonical, rest)
    return Token(lx.CONTENT, word, word)


def _merge_phrases(tokens: list[Token]) -> None:
    """Marks the phrases in which a word does not mean what it means alone: uncertainty first, then changes, then negation."""
    for i, token in enumerate(tokens):
        text = token.text
        if text == "not" and [t.kind for t in tokens[i + 1 : i + 2]] == [lx.MARKER] and _text(tokens, i + 2) in lx.SEEN:
            token.kind, token.word = lx.HEDGE, "not masked"  # "Is not MARK seen": perhaps not well, perhaps not at all.
        elif text in _NEGATES:
            _merge_negation(tokens, i)
        elif token.kind == lx.COMPARE and i and (tokens[i - 1].kind == lx.NEGATION or tokens[i - 1].text == "for"):
            token.kind = lx.CONTENT  # "No comparison", "no film for comparison": no aside, but what is denied.
        elif text in ("free", "clear") and _text(tokens, i + 1) == "of":
            token.kind, token.word = lx.NEGATION, "free of"
        elif text in ("other", "rather") and _text(tokens, i + 1) == "than":
            token.kind = lx.HARD if text == "other" else lx.NEGATION
        elif text in ("aside", "apart", "except") or (text == "there" and i and _text(tokens, i + 1) in lx.COPULAS):
            token.kind = lx.HARD
        elif text == "if" and _text(tokens, i + 1) in ("any", "present"):
            token.kind = lx.HEDGE


def _text(tokens: list[Token], i: int) -> str:
    return tokens[i].text if i < len(tokens) else ""


def _merge_negation(tokens: list[Token], i: int) -> None:
    ahead = tokens[i + 1 : i + 6]
    for k, token in enumerate(ahead):
        if token.text in _EXCLUDE:
            if tokens[i].text == "to" and not (i and tokens[i - 1].text == "difficult"):
                return
            tokens[i].kind, tokens[i].word = lx.HEDGE, "cannot exclude"
            for passed in ahead[: k + 1]:
                passed.kind = lx.MARKER if passed.kind == lx.MARKER else lx.FREE
            return
        if token.text in _ASPECTS and tokens[i].text in ("no", "not", "without"):
            tokens[i].kind, tokens[i].word = lx.CHANGE, "stable"
            token.kind = lx.WEAK
            return
        if token.text == "definite" or token.text == "definitely":
            token.kind = lx.HEDGE
            return
        if token.kind not in (lx.FREE, lx.WEAK, lx.QUALIFIER, lx.MARKER, lx.CHANGE) and not token.text.endswith("ly"):
            return


def _read_numbers(tokens: list[Token]) -> None:
    masked = False  # Whether a marker stands in the chain of a size ("3 x MARK x 4 cm") that is being read.
    for i, token in enumerate(tokens):
        if token.kind == lx.MARKER:
            masked = True
        elif token.kind == lx.NUMBER:
            _read_number(tokens, i, masked)
        elif token.kind == lx.TIMES:
            _read_times(tokens, i)
        elif token.kind == lx.UNIT:
            _read_bare_unit(tokens, i)
        if token.kind not in _CHAIN and token.kind != lx.UNIT:
            masked = False


def _read_number(tokens: list[Token], i: int, masked: bool) -> None:
    token = tokens[i]
    parts = _NUMBER.fullmatch(token.text)
    value, unit = parts.groups() if parts else (token.word, "")
    j = i + 1
    while j < len(tokens) and j < i + 8 and (tokens[j].kind in _CHAIN or tokens[j].text in ("to", "by", ",") or MARK in tokens[j].text):
        masked = masked or MARK in tokens[j].text
        j += 1
    if not unit and j < len(tokens) and tokens[j].kind == lx.UNIT:
        unit = tokens[j].word
        tokens[j].optional = True  # Its number is there.
    if not unit and parts and any(MARK in other.text for other in tokens[i + 1 : j]):
        unit = "?"  # "A 5 MARK catheter", "3.2 x 4MARK cm": the unit, or the way to it, may be what was masked.
    unit = lx.lookup(unit)[1] if unit else ""
    age = unit in ("year", "month") and any(t.text in ("old", "m", "f", "male", "female") for t in tokens[j : j + 3])
    token.kind, token.word = lx.NUMBER, f"{value} {unit}".strip()
    token.optional = masked or age or ":" in value or value.count("/") > 1 or _near_marker(tokens, i)


def _near_marker(tokens: list[Token], i: int) -> bool:
    return any(_meets_marker(tokens, range(*steps)) for steps in ((i + 1, min(i + 7, len(tokens))), (i - 1, max(i - 4, -1), -1)))


def _meets_marker(tokens: list[Token], steps: range) -> bool:
    """Whether a marker comes before the next content word."""
    for j in steps:
        if MARK in tokens[j].text and not completes(tokens, j):
            return True
        if tokens[j].kind not in _BETWEEN:
            return False
    return False


def completes(tokens: Sequence[Token], i: int) -> tuple[str, ...]:
    """The words that the marker at ``i`` stands for if it can only be the rest of a collocation: "x-MARK", "lymph MARK"."""
    if not i:
        return ()
    before = tokens[i - 1].word
    if before in lx.COMPLETIONS_OF_TWO and i + 1 < len(tokens) and tokens[i + 1].kind == lx.MARKER:
        return tuple(lx.COMPLETIONS_OF_TWO[before].split())
    return tuple(lx.COMPLETIONS.get(before, "").split())


def _read_times(tokens: list[Token], i: int) -> None:
    """A times sign needs a factor on either side; one without is a size that lost a part."""
    before = tokens[i - 1].kind if i else ""
    after = tokens[i + 1].kind if i + 1 < len(tokens) else ""
    size = lx.NUMBER in (before, after) or after == lx.UNIT
    whole = before in (lx.NUMBER, lx.MARKER, lx.UNIT) and after in (lx.NUMBER, lx.MARKER)
    tokens[i].word = "x?" if size and not whole else "x"
    tokens[i].kind = lx.WEAK if not size or not whole else lx.TIMES


def _read_bare_unit(tokens: list[Token], i: int) -> None:
    token = tokens[i]
    if token.optional:
        return
    if token.word in lx.SIZE_UNITS:
        if i and tokens[i - 1].kind in (lx.MARKER, lx.NUMBER):
            return
        token.kind, token.word = lx.WEAK, f"? {token.word}"
    else:
        token.kind = lx.WEAK
