"""Where a marker stands: the little of its sentence that decides which word fits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from cxrguard.sanitizer.conventions import MARK
from cxrguard.sanitizer.segments import ABBREVIATION

# What the words before a date are about.
STUDY = r"stud(?:y|ies)|exam(?:ination)?s?|radiographs?|films?|ct|cta|scans?|x-rays?|mri|images?|imaging|priors?"
CHANGE = r"unchanged|stable|changed?|improved|improvement|worse|worsened|increased?|decreased?"
COMPARED_TO = r"\b(?:compar(?:ed|ing|ison)|relative)(?: is made)? (?:with|to) $"

# A rule looks at most this far: linear however long the text is.
_LEFT, _RIGHT = 160, 60

_ONE = re.compile(MARK)
_RUN = re.compile(rf"{MARK}(?:[ \n/]{{0,2}}{MARK}){{0,40}}")
_SENTENCE_END = re.compile(r"[.!?;](?=\s)|\n")
_UNIT = r"(?:[cm]?m|[x×]|%|french|fr|degrees?|mg|mcg|g|kg|ml|cc|l|units?|percent|weeks?|months?|days?|hours? ago|minutes?|seconds?)\b"
_MEASURED_RIGHT = re.compile(rf"\s{{0,2}}-?{_UNIT}|\s{{0,2}}[%×]|\s{{0,2}}[x×]\s{{0,2}}[\d{MARK}]", re.IGNORECASE)
_MEASURED_LEFT = re.compile(
    r"(?:\d\.?[x×]?\s{0,2}|\b[x×]\s{1,2}|\d\s{0,2}[cm]m\s|[<>=~#+±]\s{0,2}|\bno\.\s{1,2}|\b(?:t|l|c|number|stage|grade|level|size|measur\w{0,6}"
    r"|approximately|about|roughly)\.?\s{1,2})$",
    re.IGNORECASE,
)
_SLASHED = re.compile(r"\b(?:r/o|s/p|h/o|c/o|w/o?|p/w|d/w|y/o)[ .:]{0,3}$", re.IGNORECASE)
AGE_RIGHT = re.compile(r"(?:[ -]{0,2}(?:years?|yrs?|y)[ /.-]{0,2}(?:old|o)\b|[ -](?:yo|y/o)\b)", re.IGNORECASE)
_LAST_WORDS = re.compile(r"[^\W_][^\W_]*(?:['.][^\W_]+){0,2}\.?(?=\s*$)")


@dataclass(frozen=True)
class Place:
    """One marker, or a run of them, and what is around it.

    Attributes:
        start: Where it starts in the text.
        end: Where it ends.
        left: Up to 160 characters of the same sentence before it.
        right: Up to 60 characters after it.

    """

    start: int
    end: int
    left: str
    right: str

    @property
    def starts_sentence(self) -> bool:
        """Nothing but blanks, list numbers or opening brackets stands before it in its sentence."""
        since = self.left.rpartition(": ")[2]
        return not re.search(r"[^\W\d_]", since) and MARK not in since

    @cached_property
    def is_glued(self) -> bool:
        """A letter, digit, hyphen or slash touches it: it is a part of something larger."""
        return bool(re.search(r"[^\W_]$|[-/_.,:'’+*#@\ue0fe]$", self.left) or re.match(r"[^\W_]|[-/_'’+*#@\ue0fe(\[]|[.,:]\w", self.right))

    @cached_property
    def is_measured(self) -> bool:
        """It is a number with a unit, or beside a number: any word there changes a measurement."""
        return bool(_MEASURED_RIGHT.match(self.right) or _MEASURED_LEFT.search(self.left))

    @property
    def is_age(self) -> bool:
        """It is the number of an age."""
        return bool(AGE_RIGHT.match(self.right))

    @property
    def takes_any_word(self) -> bool:
        """Some word could stand here without being read as a part of another word, a number or an abbreviation."""
        if self.is_age:
            return not re.search(r"[^\W_]$|[-/]$", self.left) and not _MEASURED_LEFT.search(self.left)
        return not (self.is_glued or self.is_measured or _SLASHED.search(self.left))

    @cached_property
    def previous(self) -> str:
        """The word before it in lower case without its period, or ``""``."""
        found = _LAST_WORDS.search(self.left[-40:])
        return found.group().lower().rstrip(".") if found else ""

    @cached_property
    def next(self) -> str:
        """The word after it in lower case, or ``""`` at a stop or the end."""
        found = re.match(r"\s{1,3}([^\W\d_]{1,30})", self.right)
        return found.group(1).lower() if found else ""

    @property
    def ends_phrase(self) -> bool:
        """A stop, a comma, a closing bracket or the end follows."""
        return bool(re.match(r"\s*(?:[.,;!?)\]](?:\s|$)|[.,;!?)\]]{1,2}|$)", self.right))


def find_places(text: str, *, merge: bool) -> list[Place]:
    """All markers in order; ``merge`` takes a run of markers as one."""
    places = []
    for found in (_RUN if merge else _ONE).finditer(text):
        left = text[max(0, found.start() - _LEFT) : found.start()]
        cut = max((m.end() for m in _SENTENCE_END.finditer(left) if not _is_title(left[: m.end()])), default=0)
        places.append(Place(found.start(), found.end(), left[cut:].lstrip(), text[found.end() : found.end() + _RIGHT]))
    return places


def _is_title(left: str) -> bool:
    return bool(re.search(rf"\b(?:{ABBREVIATION}|prof|no|[ap]\.m)\.$", left[-12:], re.IGNORECASE))
