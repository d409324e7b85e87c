"""What may stand in a marker's place instead of nothing: the actions ``fill``, ``randomize`` and ``surrogate``.

Each refuses (None) rather than state something that the report did not say; the caller then repairs or drops the sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.placeholders.context import Place, find_places
from cxrguard.sanitizer.placeholders.fill import neutral_word
from cxrguard.sanitizer.placeholders.pseudo import pseudo_word
from cxrguard.sanitizer.placeholders.surrogate import SurrogateMaker
from cxrguard.sanitizer.tidying import takes_an

PLACING_ACTIONS = ("fill", "randomize", "surrogate")


class Placed(NamedTuple):
    """A text whose markers were replaced.

    Attributes:
        text: The new text.
        spans: Start and end in ``text`` of each replacement, in order. A fact check must see a marker there: a surrogate's digits
            are no fact of the report.

    """

    text: str
    spans: tuple[tuple[int, int], ...]


def place(sentence: str, kinds: Sequence[str] | None, action: str, key: str, seed: int, *, first: int = 0) -> str | None:
    """Replaces every marker of a sentence.

    Args:
        sentence: A sentence or text in which every marker is :data:`~cxrguard.sanitizer.conventions.MARK`.
        kinds: For each marker in order its own text without brackets (``"Hospital1"``, ``"2151-7-16"``); None, or an entry
            without a label (``"___"``, ``"XXXX"``), where the convention gives none. Only ``surrogate`` reads it.
        action: One of :data:`PLACING_ACTIONS`.
        key: A hash of the original text.
        seed: The sanitizer's seed.
        first: Index of the first marker within the original text, where its sentences come one by one: no word comes twice then.

    Returns:
        The new text, or None where some marker's place allows no word.

    Raises:
        CxrguardError: For an unknown action, or ``surrogate`` without Faker.

    """
    placed = place_with_spans(sentence, kinds, action, key, seed, first=first)
    return None if placed is None else placed.text


def place_with_spans(sentence: str, kinds: Sequence[str] | None, action: str, key: str, seed: int, *, first: int = 0) -> Placed | None:
    """As :func:`place`, and says where the replacements stand."""
    if action not in PLACING_ACTIONS:
        raise CxrguardError(f"Unknown placing action {action!r}: known are {', '.join(PLACING_ACTIONS)}.")
    # Several markers with only blanks between them hide one thing: one closed-class word fits there, not two.
    places = find_places(sentence, merge=action == "fill")
    maker = SurrogateMaker(key, seed) if action == "surrogate" else None
    words: list[str] = []
    for i, spot in enumerate(places):
        label = kinds[i] if kinds is not None and maker is not None and i < len(kinds) else ""
        word = _word(spot, action, maker, label, key, seed, first + i)
        if word is None:
            return None
        words.append(word)
    return _write(sentence, places, words)


def _word(spot: Place, action: str, maker: SurrogateMaker | None, label: str, key: str, seed: int, index: int) -> str | None:
    if maker is not None:
        return maker.word(spot, label, index)
    if action == "fill":
        return neutral_word(spot)
    return pseudo_word(seed, key, index) if spot.takes_any_word else None


def _write(sentence: str, places: Sequence[Place], words: Sequence[str]) -> Placed:
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    done = length = 0
    for spot, word in zip(places, words, strict=True):
        between = _with_article(sentence[done : spot.start], word)
        new = word[0].upper() + word[1:] if spot.starts_sentence else word
        length += len(between)
        spans.append((length, length + len(new)))
        parts += [between, new]
        length += len(new)
        done = spot.end
    return Placed("".join(parts) + sentence[done:], tuple(spans))


def _with_article(before: str, word: str) -> str:
    """Ends ``before`` on the right one of "a" and "an", if it ends on either."""
    head, blank, tail = before.rpartition(" ")
    article = head.rpartition(" ")[2].rpartition("\n")[2]
    if tail or not blank or article.lower() not in ("a", "an"):
        return before
    return head[: len(head) - len(article)] + article[0] + ("n " if takes_an(word) else " ")
