"""``fill``: a neutral closed-class word that fits a marker's place.

No word here points back at a finding ("it", "this"): "Left effusion. No evidence of it." says that the effusion is gone. So
objects become "something", times "then" or "some day"; and where a marker may have hidden "no" or "may" before a finding, there
is no neutral word at all.
"""

from __future__ import annotations

import re

from cxrguard.sanitizer.placeholders.context import CHANGE, COMPARED_TO, STUDY, Place
from cxrguard.sanitizer.vocabulary import FINDING_STEMS

_STUDY = rf"(?:{STUDY}|comparison|chest|views?|radiography|tomography)"
_TALK = re.compile(
    r"\b(?:discussed|communicat\w{0,6}|notif\w{0,6}|telephoned?|phoned?|paged?|called|informed|conveyed|relayed|spoke|reported|read|"
    r"dictated|signed|reviewed|interpreted|approved|electronically)\b",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"\b(?:no|not|without|neither|nor|never|den(?:y|ies|ied)|negative|absen\w{1,3}|free|cannot|resol\w{2,6})\b|n't\b", re.IGNORECASE
)
# Before or after one of these a marker may have hidden "no", "may" or "small".
_CLINICAL = re.compile(
    rf"{FINDING_STEMS}|evidence|change|sign|acute|focal|abnorm|diseas|process|lesion|lucen|density|densities|calcif|malignan|metast|"
    r"adenopath|widen|deform|degenerat|shift|air|fluid|blunt|promin|cavit",
    re.IGNORECASE,
)
_VERBS_S = "is|was|has|appears|remains|represents|suggests|shows|demonstrates|measures|seems|projects|overlies|extends|terminates"
_VERBS_P = "are|were|have|appear|remain|represent|suggest|show|demonstrate|seem|project|overlie|extend|terminate"
# After an object only what cannot belong to it: "of MARK lobe" hides an adjective.
_AFTER_OBJECT = frozenset(
    {"and", "or", "with", "without", "in", "on", "at", "from", "for", "by", "since", "until", "before", "after", "is", "are"}
    | {"was", "were", "has", "have", "which", "that", "but", "as", "when", "than"}
)
_CLOSED = frozenset(
    f"{_VERBS_S}|{_VERBS_P}|a|an|the|and|or|of|in|on|at|with|without|to|from|for|by|as|no|not|there|this|that|which|who|may|might|could|"
    "can|cannot|should|would|will|since|than|but|if|both|either|neither|nor|versus|vs|between|within|into|over|under|above|below|be|been|"
    "hours|hrs|am|pm|a|p|due|likely|probably|possibly|seen|noted".split("|")
)
_VERBAL = re.compile(r"(?:ed|ing|ly|seen)$")


def neutral_word(spot: Place) -> str | None:
    """The word for one place; None if there is none that states nothing."""
    if not spot.takes_any_word or spot.is_age:
        return None
    if spot.starts_sentence:
        return _subject(spot)
    if spot.ends_phrase or spot.next in _AFTER_OBJECT:
        return _object(spot)
    return _modifier(spot)


def _subject(spot: Place) -> str | None:
    if re.match(r" (?:is|are|was|were) (?:no|an?) ", spot.right):
        return "there"
    if re.match(rf" (?:{_VERBS_S})\b", spot.right):
        return "something"
    return "some" if re.match(rf" (?:{_VERBS_P})\b", spot.right) else None


def _object(spot: Place) -> str | None:
    word = spot.previous
    if word in ("since", "until", "till") or re.search(r"\bprior to $", spot.left, re.IGNORECASE):
        return "then"
    if word in ("before", "after"):
        return "then" if word == "before" else "that time"
    if re.search(COMPARED_TO, spot.left, re.IGNORECASE):
        return "before"
    dated = _date(spot, word)
    if dated:
        return dated
    if word in ("with", "to", "by") and _TALK.search(spot.left):
        return "someone"
    if word == "at":
        return "some point"
    # "no evidence of anything" would say more than the report, "no evidence of something" nothing that is English.
    if word in _OBJECT_PREPOSITIONS and not _NEGATED.search(spot.left):
        return "something"
    return None


_OBJECT_PREPOSITIONS = frozenset(["of", "to", "with", "from", "for", "by", "in", "about", "regarding"])
_DATE_OF = re.compile(rf"\b{_STUDY} (?:of|on) $", re.IGNORECASE)
_DATE_FROM = re.compile(rf"\b(?:{_STUDY}|{CHANGE}) from $", re.IGNORECASE)
_DONE_ON = re.compile(
    r"\b(?:performed|obtained|done|taken|acquired|discussed|communicated|placed|made|dictated|signed|seen) on $", re.IGNORECASE
)


def _date(spot: Place, word: str) -> str | None:
    if word == "dated":
        return "earlier"
    if _DATE_OF.search(spot.left) or _DONE_ON.search(spot.left) or (word == "on" and _TALK.search(spot.left)):
        return "some day"
    return "before" if _DATE_FROM.search(spot.left) else None


def _modifier(spot: Place) -> str | None:
    if not spot.next or spot.next in _CLOSED or _VERBAL.search(spot.next):
        return None
    if spot.previous in ("no", "any"):
        return "such"
    if spot.previous == "the":
        return "said"
    if spot.previous in ("a", "an"):
        return None if _CLINICAL.search(spot.right) else "certain"
    return None
