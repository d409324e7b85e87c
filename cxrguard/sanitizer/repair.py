"""Takes markers out of a text: pure functions, text in, text and edits out. Repair what is safe, else drop the sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from cxrguard.sanitizer.conventions import MARK, Collapsed
from cxrguard.sanitizer.segments import Piece, split_pieces
from cxrguard.sanitizer.sentence import Outcome, repair_sentence

_LETTER = re.compile(r"[^\W\d_]")
# Under these headers the first sentence is all: what follows on a new line is no part of them.
_TOLD = re.compile(r"(?:NOTIFICATION|COMMUNICATION|COMPARISON|RECOMMENDATION|TECHNIQUE|EXAM)")
_NUMBERED = re.compile(r"(\d{1,2})([.)]\s)")


@dataclass(frozen=True)
class Edit:
    """One change, without its text.

    Attributes:
        rule: Rules that fired, joined by ``+``.
        action: ``repair``, ``drop_sentence``, ``drop_header``, ``strip``, ``fill``, ``randomize``, ``surrogate``, ``canonicalize``
            or ``refuse``.
        start: Where the changed sentence or header starts in the original text.
        end: Where it ends.

    """

    rule: str
    action: str
    start: int
    end: int

    @property
    def lost(self) -> bool:
        """Whether more than markers, names, dates or who was told may have gone with it."""
        return self.action in ("drop_sentence", "refuse") and self.rule not in ("communication", "nothing_said")

    def as_dict(self) -> dict[str, str | int]:
        """The fields by name (dataclasses.asdict takes ten times as long)."""
        return {"rule": self.rule, "action": self.action, "start": self.start, "end": self.end}


def strip_sentence(sentence: str) -> Outcome:
    """Removes the bare markers of a sentence."""
    new = re.sub(r" {2,}", " ", sentence.replace(MARK, "")).strip()
    return Outcome(new if _LETTER.search(new) else "", "marker", "strip")


def repair_marked(marked: str, complete: bool = True) -> tuple[str, list[Edit]]:
    """Repairs each marked sentence of a text whose markers are :data:`MARK` already."""
    return edit_collapsed(Collapsed(marked, (), ()), lambda sentence: repair_sentence(sentence, complete))


def edit_collapsed(short: Collapsed, change: Callable[[str], Outcome]) -> tuple[str, list[Edit]]:
    """Changes each marked sentence by ``change``, which sees every marker as :data:`MARK`."""
    pieces = split_pieces(short.text)
    new = [piece.text for piece in pieces]
    edits: list[tuple[Outcome, Piece]] = []
    for i, piece in enumerate(pieces):
        if MARK in piece.text:
            outcome = change(piece.text)
            new[i] = outcome.text
            edits.append((outcome, piece))
    edits += _drop_empty_headers(pieces, new)
    _renumber(pieces, new)
    located = [Edit(o.rule, o.action, short.to_original(p.start), short.to_original(p.end, end=True)) for o, p in edits]
    return _join(pieces, new), located


def _renumber(pieces: list[Piece], new: list[str]) -> None:
    """Closes the gaps that dropped items leave in numbered lists."""
    due: int | None = None
    for i, piece in enumerate(pieces):
        item = _NUMBERED.match(piece.text) if piece.kind == "sentence" else None
        if not item:
            continue
        number = int(item.group(1))
        due = 1 if number == 1 else number if due is None else due + 1
        if not new[i]:
            due -= 1
        elif due != number and _NUMBERED.match(new[i]):
            new[i] = f"{due}{item.group(2)}{new[i][item.end():]}"


def _drop_empty_headers(pieces: list[Piece], new: list[str]) -> list[tuple[Outcome, Piece]]:
    """Empties headers whose section lost all it had."""
    edits: list[tuple[Outcome, Piece]] = []
    has_text, lost_text = False, False
    for i in reversed(range(len(pieces))):
        piece = pieces[i]
        if piece.kind == "sentence":
            has_text, lost_text = has_text or bool(new[i]), lost_text or not new[i]
        elif piece.kind == "header":
            emptied = lost_text and not has_text
            first = next((j for j in range(i + 1, len(pieces)) if pieces[j].kind != "blank"), None)
            told = first is not None and not new[first] and bool(_TOLD.match(piece.text))
            if emptied or told:
                new[i] = ""
                edits.append((Outcome("", "empty_section", "drop_header"), piece))
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
