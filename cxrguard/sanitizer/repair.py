"""Takes markers out of a text: pure functions, text in, text and edits out. Repair what is safe, else drop the sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cxrguard.sanitizer.conventions import MARK, Convention, collapse, residual_markers
from cxrguard.sanitizer.rules import COMMUNICATION, HOLE, RULES, tidy, whole_clauses
from cxrguard.sanitizer.segments import Piece, split_pieces

# No radiologist's sentence is longer; a longer one is dropped unread, which keeps the rules' time bounded.
MAX_SENTENCE = 2000
_ITEM = re.compile(r"(?:\d{1,2}[.)]|[-*•]) ")
# Several markers with nothing between them stand for one thing; but "x-XXXX XXXX" is a ray and something else.
_MARKS = re.compile(rf"(?<![xX]-){MARK}(?:[ /-]?{MARK})+")
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Edit:
    """One change, without its text.

    Attributes:
        rule: Rules that fired, joined by ``+``.
        action: ``repair``, ``drop_clause``, ``drop_sentence``, ``drop_header`` or ``strip``.
        start: Where the changed sentence or header starts in the original text.
        end: Where it ends.

    """

    rule: str
    action: str
    start: int
    end: int


Outcome = tuple[str, str, str]  # new text, rule, action


def repair(text: str, conventions: Sequence[Convention]) -> tuple[str, list[Edit]]:
    """Repairs each marked sentence, or drops it where no rule is safe.

    A text without a marker comes back as it is. The result never joins two sentences.
    """
    return _edit(text, conventions, repair_sentence)


def drop_sentences(text: str, conventions: Sequence[Convention]) -> tuple[str, list[Edit]]:
    """Drops each marked sentence whole."""
    return _edit(text, conventions, lambda _: ("", "marked", "drop_sentence"))


def strip(text: str, conventions: Sequence[Convention]) -> tuple[str, list[Edit]]:
    """Removes the bare markers: the naive baseline. Leaves broken sentences; only the fact check guards it."""
    return _edit(text, conventions, _strip_sentence)


def repair_sentence(sentence: str) -> Outcome:
    """Repairs one sentence in which every marker is :data:`MARK`."""
    drop = ("", "no_safe_repair", "drop_sentence")
    if len(sentence) > MAX_SENTENCE:
        return drop
    if COMMUNICATION.search(sentence):
        return "", "communication", "drop_sentence"
    flat = _MARKS.sub(MARK, " ".join(sentence.split()))
    item = _ITEM.match(flat)
    head = item.group() if item else ""
    changed, names = _apply_rules(flat[len(head) :])
    action = "repair"
    if MARK in changed:
        changed, action = whole_clauses(changed.replace(HOLE, "")) or "", "drop_clause"
        names.append("clause")
    tidied = tidy(changed) if changed else None
    if not tidied:
        return drop
    return head + _recapitalise(tidied, flat[len(head) :]), "+".join(names), action


def _apply_rules(sentence: str) -> tuple[str, list[str]]:
    names = []
    for rule in RULES:
        if rule.unless is None or not rule.unless.search(sentence):
            # The hole at the very start would keep a second "^" rule from matching.
            sentence, n = rule.pattern.subn(rule.new, sentence)
            sentence = sentence.removeprefix(HOLE)
            names += [rule.name] * bool(n)
    return sentence, names


def _strip_sentence(sentence: str) -> Outcome:
    new = re.sub(r" {2,}", " ", sentence.replace(MARK, "")).strip()
    return (new if _LETTER.search(new) else ""), "marker", "strip"


def _recapitalise(new: str, old: str) -> str:
    return new[0].upper() + new[1:] if old[:1].isupper() or old.startswith(MARK) else new


def _edit(text: str, conventions: Sequence[Convention], change: Callable[[str], Outcome]) -> tuple[str, list[Edit]]:
    if not residual_markers(text, conventions):
        return text, []
    short = collapse(text, conventions)
    pieces = split_pieces(short.text)
    new = [piece.text for piece in pieces]
    edits = []
    for i, piece in enumerate(pieces):
        if MARK in piece.text:
            new[i], rule, action = change(piece.text)
            edits.append((rule, action, piece))
    edits += _drop_empty_headers(pieces, new)
    located = [Edit(r, a, short.to_original(p.start), short.to_original(p.end, end=True)) for r, a, p in edits]
    return _join(pieces, new), located


def _drop_empty_headers(pieces: list[Piece], new: list[str]) -> list[tuple[str, str, Piece]]:
    """Empties headers (but FINDINGS and IMPRESSION) whose section lost all it had."""
    edits = []
    has_text, lost_text = False, False
    for i in reversed(range(len(pieces))):
        piece = pieces[i]
        if piece.kind == "sentence":
            has_text, lost_text = has_text or bool(new[i]), lost_text or not new[i]
        elif piece.kind == "header":
            if lost_text and not has_text and not piece.is_kept_header:
                new[i] = ""
                edits.append(("empty_section", "drop_header", piece))
            has_text, lost_text = False, False
    return edits[::-1]


def _join(pieces: list[Piece], new: list[str]) -> str:
    """Joins what is left; of the blanks around a dropped piece the one with more lines stays."""
    parts: list[str] = []
    blank = ""
    dropped = False
    for piece, text in zip(pieces, new, strict=True):
        if piece.kind == "blank":
            longer = text.count("\n") > blank.count("\n")
            blank = text if longer or not blank else blank
        elif text:
            # What a dropped sentence at the very start leaves is no indentation.
            parts += [text] if dropped and not parts else [blank, text]
            blank, dropped = "", False
        else:
            dropped = True
    return "".join(parts if dropped else [*parts, blank])
