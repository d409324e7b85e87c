"""One text through repair and fact check. Fails closed: what cannot be shown to be safe becomes the empty prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.conventions import Convention, collapse, residual_markers
from cxrguard.sanitizer.fact_check import keeps_facts
from cxrguard.sanitizer.repair import Edit, drop_sentences, repair, strip
from cxrguard.sanitizer.segments import split_pieces

Step = Callable[[str, Sequence[Convention]], tuple[str, list[Edit]]]

# Tried in order until one passes. A repair that fails the check may still be dropped, a strip may not: it is a baseline.
_STEPS: dict[str, tuple[Step, ...]] = {
    "repair": (repair, drop_sentences),
    "drop_sentence": (drop_sentences,),
    "strip": (strip,),
    "off": (),
}
ACTIONS = tuple(_STEPS)
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class Sanitized:
    """A sanitized text.

    Attributes:
        text: What may be used; empty if emptied or refused.
        status: ``unchanged``, ``edited``, ``emptied`` (nothing but headers was left) or ``refused`` (failed the check).
        edits: What was done, as offsets into the original and rule names.

    """

    text: str
    status: str
    edits: tuple[Edit, ...] = ()


def check_action(action: str) -> None:
    """Raises CxrguardError for an action that is none, listing those there are."""
    if action not in ACTIONS:
        raise CxrguardError(f"Unknown sanitizer action {action!r}: known are {', '.join(ACTIONS)}.")


def sanitize_text(text: str, conventions: Sequence[Convention], action: str = "repair") -> Sanitized:
    """Sanitizes one text of any length in linear time."""
    check_action(action)
    if action == "off" or not residual_markers(text, conventions):
        return Sanitized(text, "unchanged")
    # One mark a run: the check then sees "3.2 x <mark> cm" and the numbers a marker is glued to.
    original = collapse(text, conventions).text
    for step in _STEPS[action]:
        new, edits = step(text, conventions)
        if residual_markers(new, conventions) or not keeps_facts(original, new):
            continue
        if not any(_WORD.search(piece.text) for piece in split_pieces(new) if piece.kind == "sentence"):
            return Sanitized("", "emptied", tuple(edits))
        return Sanitized(new, "edited", tuple(edits))
    return Sanitized("", "refused", (Edit("fact_check", "refuse", 0, len(text)),))
