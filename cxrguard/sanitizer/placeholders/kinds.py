"""Which kind of identifier a marker hid: by its own label (MIMIC-III) or by the words around it."""

from __future__ import annotations

import datetime as dt
import re

from cxrguard.sanitizer.placeholders.context import CHANGE, COMPARED_TO, STUDY, Place

_LABELS: tuple[tuple[str, str], ...] = (
    (r"\d{4}-\d{1,2}(?:-\d{1,2})?$|\d{1,2}-\d{1,2}$|month/day/year|month/year|date range|date\b", "date"),
    (r"month/day|day month", "day"),
    (r"month\b", "month"),
    (r"\d{4}$|year", "year"),
    (r"(?:known )?first ?name|(?:male|female) first name", "first_name"),
    (r"(?:known )?last ?name|doctor last name", "name"),
    (r"name|initials?|known patient|attending|doctor|dictator", "person"),
    (r"hospital|location|wardname|ward name|clinic", "hospital"),
    (r"telephone|phone|fax|pager", "phone"),
    (r"age over", "age"),
    (r"city|street|address|country|univ", "city"),
    (r"state", "state"),
    (r"(?:md|medical record|unit|numeric|serial|job|social|clip|account) ?", "identifier"),
    (r"time", "clock"),
)
_LABEL = tuple((re.compile(pattern), kind) for pattern, kind in _LABELS)

_TITLE = re.compile(r"\b(?:drs?|mr|mrs|ms|miss|prof|professor|doctor|nurse|np|pa-c|rn|attending|resident)[.,]? $", re.IGNORECASE)
_PLACE_LEFT = re.compile(r"\b(?:at|from|to|in|the|of|outside) $", re.IGNORECASE)
_LEFT: tuple[tuple[str, str], ...] = (
    (r"\b(?:phone|telephone|pager|beeper|fax|tel|ext|extension)(?: number| no\.?| #)?[:.]? $", "phone"),
    (r"\b(?:mrn|accession|record number|account)[:.#]? $", "identifier"),
    (r"\b(?:aged?|age of) $", "age"),
    (r"\b(?:since|dated|until|till|as of|comparison:|date:) $", "date"),
    (COMPARED_TO, "date"),
    (rf"\b(?:{STUDY}) (?:of|on|from|dated) $", "date"),
    (rf"\b(?:{CHANGE}) from $", "date"),
    (r"\b(?:performed|obtained|done|taken|acquired|placed|admitted|discharged|made|dictated|signed|discussed|telephone) on $", "date"),
    (
        r"\b(?:transferred|referred|transfer) (?:to|from) $|\boutside hospital,? $|\bhospitali[sz]ed (?:at|in) $|\badmitted (?:to|at) $",
        "hospital",
    ),
    (r"\b(?:lives|living|resides|travel(?:ed|led|s)?|born|moved|immigrated|trip) (?:in|to|from) $|\bcity of $", "city"),
    (
        r"\b(?:dictated|read|signed|interpreted|reviewed|approved|entered|performed|informed|notified|reported|communicated|discussed|"
        r"relayed|conveyed|paged|called|telephoned|spoke|telephone)(?: over the (?:tele)?phone)? (?:by|to|with) $|\bpatient name:? $|"
        r"\b(?:notified|informed|paged|telephoned) $",
        "person",
    ),
    (
        r"\b(?:telephone|phone|discussed|communicated|notified|paged|called|relayed|reported|findings|dictated)\b[^.]{0,60} at $",
        "clock",
    ),
)
_LEFT_RULES = tuple((re.compile(pattern, re.IGNORECASE), kind) for pattern, kind in _LEFT)
_TWELVE = re.compile(r" ?(?:[ap]\.m\b|[ap]m\b)", re.IGNORECASE)
_HOURS = re.compile(r" (?:hours|hrs)\b(?! ago)", re.IGNORECASE)
_SEX = re.compile(r" ?[FM]\b(?=[ ,.]|$)")
_CLINIC = re.compile(r" (?:Hospital|Medical Center|Clinic|Healthcare)\b")
# A hospital's label also hides "BID" after a dose.
_DOSE = re.compile(r"\b(?:mg|mcg|g|ml|po|iv|tab|tablet|daily|dose)\.? $", re.IGNORECASE)


def kind_from_label(label: str, spot: Place) -> str | None:
    """The kind that a MIMIC-III label (lower case, without brackets) names; None if none, or if its place contradicts it.

    Args:
        label: Such as ``hospital1`` or ``2151-7-16``.
        spot: Where it stands.

    """
    kind = next((kind for pattern, kind in _LABEL if pattern.match(label)), None)
    if kind == "age" or (kind == "date" and spot.is_age):
        return "age" if _age_fits(spot) else None
    if kind is None or not spot.takes_any_word or spot.is_age:
        return None
    if kind in ("hospital", "city", "state"):
        return kind if _PLACE_LEFT.search(spot.left) and not _DOSE.search(spot.left) else None
    return "name" if kind == "person" and _TITLE.search(spot.left) else kind


def kind_from_context(spot: Place) -> str | None:
    """The kind that the words around a bare marker tell; None for a place where it may have hidden a clinical word."""
    if spot.is_age or (_SEX.match(spot.right) and re.search(r"(?:^|[:,] |\ban? )$", spot.left)):
        return "age" if _age_fits(spot) else None
    if not spot.takes_any_word:
        return None
    if _TITLE.search(spot.left):
        return "name"
    if _CLINIC.match(spot.right) and not spot.starts_sentence:
        return "hospital_name"
    if re.search(r"\bat $", spot.left) and (_TWELVE.match(spot.right) or _HOURS.match(spot.right)):
        return "time" if _TWELVE.match(spot.right) else "clock"
    # "since MARK surgery" hides an adjective, not a date.
    if not (spot.ends_phrase or spot.next in _AFTER):
        return None
    return next((kind for pattern, kind in _LEFT_RULES if pattern.search(spot.left)), None)


_AFTER = frozenset(
    {"and", "or", "with", "without", "in", "on", "at", "from", "for", "by", "since", "is", "are", "was", "were", "has", "have"}
    | {"which", "that", "but", "there", "the", "as", "showing", "shows"}
)


def _age_fits(spot: Place) -> bool:
    return not re.search(r"[^\W_]$|[-/.]$|\d\s?$", spot.left)


def parse_date(label: str) -> dt.date | None:
    """The date a label such as ``2151-7-16`` or ``7-16`` holds; a year that is not given is 2150."""
    found = re.match(r"(?:(\d{4})-)?(\d{1,2})-(\d{1,2})$", label)
    if not found:
        return None
    try:
        return dt.date(int(found.group(1) or 2150), int(found.group(2)), int(found.group(3)))
    except ValueError:
        return None
