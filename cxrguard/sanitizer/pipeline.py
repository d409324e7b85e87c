"""One text through repair and fact check. Fails closed: what cannot be shown to be safe becomes the empty prompt."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cxrguard.sanitizer.conventions import MARK, Convention, has_marker, load_conventions, residual_markers
from cxrguard.sanitizer.cues import CueRewriter
from cxrguard.sanitizer.fact_check import keeps_facts
from cxrguard.sanitizer.markers import Collapsed, Markers, Span, collapse_spans, scan
from cxrguard.sanitizer.placeholders import place_with_spans
from cxrguard.sanitizer.priors import find_priors
from cxrguard.sanitizer.repair import Edit, edit_collapsed, repair_marked, strip_sentence
from cxrguard.sanitizer.segments import split_pieces
from cxrguard.sanitizer.sentence import Outcome, dropped, repair_sentence
from cxrguard.sanitizer.settings import ACTIONS, SanitizerSettings
from cxrguard.sanitizer.telegram import repair_telegram

__all__ = ["ACTIONS", "Edit", "Sanitized", "TextSanitizer", "check_action", "sanitize_text"]

Step = Callable[[str], Outcome]

_HEADERS_ALONE = 2000
_WORD = re.compile(r"[^\W\d_]{2,}")

_TELEGRAM = 2_000  # Characters of the longest text that is taken for telegraphic; a hostile megabyte is not tried twice.


@dataclass(frozen=True)
class Sanitized:
    """A sanitized text.

    Attributes:
        text: What may be used; empty if emptied or refused.
        status: ``unchanged``, ``edited``, ``emptied`` (nothing but markers, headers or communication stood there) or
            ``refused`` (nothing could be kept safely).
        edits: What was done, as offsets into the original and rule names.
        markers: Those of the original, for who asks about them next; None if it was not searched.

    """

    text: str
    status: str
    edits: tuple[Edit, ...] = ()
    markers: Markers | None = field(default=None, compare=False, repr=False)


class TextSanitizer:
    """Sanitizes single texts; pure Python without spaCy, the same results as the component.

    Args:
        settings: See :class:`SanitizerSettings`.

    Raises:
        CxrguardError: For an unknown convention, or a cue list that cannot be used.

    """

    def __init__(self, settings: SanitizerSettings) -> None:
        self.settings = settings
        self.conventions = load_conventions(settings.conventions)
        self._cues = CueRewriter(settings.cues) if settings.cues != "off" else None

    def sanitize(self, text: str) -> Sanitized:
        """Sanitizes one text of any length in linear time."""
        result = sanitize_text(text, self.conventions, self.settings.action, complete=self.settings.complete, seed=self.settings.seed)
        if self.settings.action == "off" or not result.text:
            return result
        if self.settings.priors == "drop":
            result = _then(result, drop_priors(result.text, self.settings.complete))
        if self._cues is not None and result.text:
            result = _then(result, rewrite_cues(result.text, self._cues))
        return result

    def residual(self, text: str) -> int:
        """Number of markers in ``text``; 0 is what may enter a batch."""
        return residual_markers(text, self.conventions)

    def markers_of(self, text: str, result: Sanitized) -> Markers:
        """The markers of ``text``, of which ``result`` is what :meth:`sanitize` said: it has searched already."""
        return result.markers if result.markers is not None else scan(text, self.conventions)


def _then(first: Sanitized, second: Sanitized) -> Sanitized:
    """A step after another; the offsets of a second edit of an edited text are those of the whole, as its own have moved."""
    if second.status == "unchanged":
        return first
    return Sanitized(second.text, second.status, first.edits + second.edits, first.markers)


def check_action(action: str) -> None:
    """Raises CxrguardError for an action that is none, listing those there are."""
    SanitizerSettings(action=action)


def sanitize_text(
    text: str, conventions: Sequence[Convention], action: str = "repair", *, complete: bool = True, seed: int = 0
) -> Sanitized:
    """Takes the markers out of one text of any length in linear time."""
    if action not in ACTIONS:
        check_action(action)
    if action == "off":
        return Sanitized(text, "unchanged")
    markers = scan(text, conventions)
    if not markers.spans:
        return Sanitized(text, "unchanged", (), markers)
    result = _judged(*_changed(text, markers.spans, conventions, action, seed, complete), markers)
    if result.status == "refused" and action not in ("strip", "drop_sentence") and len(text) <= _TELEGRAM:
        return _last_resort(text, markers, conventions, complete) or result
    return result


def _last_resort(text: str, markers: Markers, conventions: Sequence[Convention], complete: bool) -> Sanitized | None:
    """What can be kept of a text that would be refused; None if that is nothing."""
    short = collapse_spans(text, markers.spans)
    new, edits = edit_collapsed(short, lambda sentence: repair_telegram(sentence, complete))
    if has_marker(new, conventions) or not keeps_facts(short.text, new):
        return None
    result = _judged(new, edits, markers)
    return result if result.status == "edited" else None


def _changed(
    text: str, spans: Sequence[Span], conventions: Sequence[Convention], action: str, seed: int, complete: bool
) -> tuple[str, list[Edit]]:
    """The text without the markers at ``spans``, and what was done; empty if no way of doing it passes the fact check."""
    # One mark a run: the check then sees "3.2 x <mark> cm" and the numbers a marker is glued to.
    short = collapse_spans(text, spans)
    if action in ("fill", "randomize", "surrogate"):
        new, edits = _placed(text, short, action, seed, complete)
        if not has_marker(new, conventions):
            return new, edits
        action = "repair"
    original = short.text
    for change in _steps(action, complete):
        new, edits = edit_collapsed(short, change)
        if not has_marker(new, conventions) and keeps_facts(original, new):
            return new, edits
    return "", [Edit("fact_check", "refuse", 0, len(text))]


def _steps(action: str, complete: bool) -> tuple[Step, ...]:
    """Tried in order until one passes. A repair that fails the check may still be dropped, a strip may not: it is a baseline."""
    if action == "repair":
        return (lambda sentence: repair_sentence(sentence, complete), _drop)
    return (_drop,) if action == "drop_sentence" else (strip_sentence,)


def _drop(sentence: str) -> Outcome:
    return dropped(sentence, "marked")


def _judged(new: str, edits: Sequence[Edit], markers: Markers | None = None) -> Sanitized:
    if _says_something(new):
        return Sanitized(new, "edited", tuple(edits), markers)
    return Sanitized("", "refused" if any(edit.lost for edit in edits) else "emptied", tuple(edits), markers)


def _says_something(text: str) -> bool:
    # Only a short text can be headers alone, and each ends on a colon: a word behind the last one is no header's.
    if len(text) > _HEADERS_ALONE or _WORD.search(text, text.rfind(":") + 1):
        return True
    return any(_WORD.search(piece.text) for piece in split_pieces(text) if piece.kind == "sentence")


def _placed(text: str, short: Collapsed, action: str, seed: int, complete: bool) -> tuple[str, list[Edit]]:
    """Replaces the markers sentence by sentence; a sentence in which none can be placed is repaired.

    The check puts the marks back over what was placed: all the rest must be as it was.
    """
    key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    kinds = [text[start:end].strip("[]*<>{}_ ") for start, end in short.spans]
    first = 0

    def change(sentence: str) -> Outcome:
        nonlocal first
        n = sentence.count(MARK)
        placed = place_with_spans(sentence, kinds[first : first + n], action, key, seed, first=first)
        first += n
        if placed is None:
            return repair_sentence(sentence, complete)
        back = placed.text
        for start, end in reversed(placed.spans):
            back = back[:start] + MARK + back[end:]
        return Outcome(placed.text, action, action) if keeps_facts(sentence, back) else repair_sentence(sentence, complete)

    return edit_collapsed(short, change)


def drop_priors(text: str, complete: bool = True) -> Sanitized:
    """Takes references to earlier studies out by the same repair rules, as if each were a marker."""
    spans = find_priors(text)
    if not spans:
        return Sanitized(text, "unchanged")
    marked = text
    for start, end in reversed(spans):
        marked = marked[:start] + MARK + marked[end:]
    new, edits = repair_marked(marked, complete)
    if MARK in new or not keeps_facts(marked, new):
        return Sanitized(text, "unchanged")
    return _judged(new, [Edit(f"priors+{edit.rule}", edit.action, 0, len(text)) for edit in edits])


def rewrite_cues(text: str, cues: CueRewriter) -> Sanitized:
    """Rewrites cue phrases sentence by sentence; each rewriting has passed the fact check."""
    parts, edits = [], []
    for piece in split_pieces(text):
        new, rules = cues.rewrite(piece.text) if piece.kind == "sentence" else (piece.text, ())
        parts.append(new)
        if new != piece.text:
            edits.append(Edit("cues+" + "+".join(rules), "canonicalize", piece.start, piece.end))
    return Sanitized("".join(parts), "edited", tuple(edits)) if edits else Sanitized(text, "unchanged")
