"""Sentences on who was told: the telling goes; a finding that was told stays."""

from __future__ import annotations

import re

from cxrguard.sanitizer.conventions import MARK

CLOCK = r"\d{1,2}[:.]\d{2}(?: ?[ap]\.?m\b\.?| hours\b| hrs\b|h\b)?|\d{1,2} ?[ap]\.?m\b\.?|noon|midnight|\d{4} ?(?:hours|hrs|h)\b"
_TOLD = (
    r"discuss(?:ed|ion)|communicat(?:ed|ion)|notif(?:ied|ication)|telephon(?:ed|e|ically)|phoned?|paged?|(?<!so-)called|informed(?! consent)|"
    r"conveyed|relayed|d/w|spoke|spoken|reported (?:to|by)|e-?mail(?:ed)?|made aware|alerted|read back|readback|verbally|acknowledged|"
    r"posted to|flagged to"
)
# Said to a person, not seen in the picture: the sentence holds times and names.
COMMUNICATION = re.compile(
    rf"\b(?:{_TOLD}|dictated|transcribed|electronically signed|signed by|reviewed (?:by|with|and)|attending|wet read|critical results?|"
    r"preliminary (?:report|read)|interpreted by|telephone|conversation with|please (?:call|page|contact)|(?:with|for) (?:any )?questions|"
    rf"(?:dr\.? \S{{1,20}}|team|service|physician|surgeon|resident|nurse|{MARK})(?: (?:was|were|has been|is|are))?(?: already| well| now| made)? "
    r"(?:aware|notified))\b",
    re.IGNORECASE,
)
_WHOLE_TAIL = re.compile(
    rf"(?:[,;]| -+| \() ?(?:and |which |a finding |findings? |this |these |results? |as |the |were |was |have |has |had |been |is |are |immediately "
    rf"|subsequently |also |that |already ){{0,6}}(?:{_TOLD})\b.*$|"
    rf",? (?:and|which) (?:was |were |has been |have been )?(?:then |immediately |subsequently |also |already )?(?:{_TOLD})\b.*$",
    re.IGNORECASE,
)
_TELLER = (
    rf"(?:dr|drs|doctor|nurse|np|pa|md|the (?:\w+ ){{0,3}}(?:team|service|resident|physician|nurse|surgeon|clinicians?|provider|icu|ed|staff|"
    rf"findings?|results?|case|study|above|impression)|these|this|findings?|results?|i|we|{MARK})"
)
_PERSON_TAIL = re.compile(rf"(?:;|,? -+|, and|, but|,| and| \() ?{_TELLER}\b[^;]{{0,80}}?\b(?:{_TOLD}|aware)\b.*$", re.IGNORECASE)
# The end of what was told: how, when and to whom.
_HOW = (
    rf"(?:,? (?:(?:at|on|around|by) (?:approximately |about |around )?(?:{MARK}|{CLOCK})|(?:by|via|over|through) (?:the )?(?:tele)?phone|"
    rf"via \w+|in person|immediately|shortly|verbally|directly|personally|within \S+ (?:min|hour)\w*|by (?:dr|the|me\b|{MARK})|"
    rf"(?:to|with) (?:dr|the (?:\w+ ){{0,3}}(?:team|service|resident|physician|nurse|surgeon|provider)|nurse|{MARK})|at the time of|"
    rf"{MARK}|who\b|and (?:he|she|they|read)\b)[^;]{{0,300}})?[.]?$"
)
_WHAT = rf"(?P<what>[^{MARK},;:][^{MARK};:]{{2,200}}?)"
_ARTICLE = r"(?:the |a |an |these |this )?"
_NOUN = r"(?:(?:critical |above |new |urgent |unexpected )?(?:findings?|results?|presence|impression|diagnosis|possibility))"
_GOT = r"(?:informed|notified|paged|called|alerted|made aware|telephoned|phoned|e-?mailed) (?:and (?:informed|notified|made aware) )?"
_TOLD_WHAT = rf"{_ARTICLE}(?:{_NOUN} of {_ARTICLE})?{_WHAT}"
# "The presence of X was communicated to".
_PRESENCE = re.compile(
    rf"^{_ARTICLE}{_NOUN},? (?:of|including|namely|regarding|concerning) {_ARTICLE}{_WHAT},? (?:was|were|has been|have been|is|are) "
    rf"(?:\w+ly )?(?:{_TOLD})\b.*$",
    re.IGNORECASE,
)
# "X was discussed with Dr. M".
_PASSIVE = re.compile(rf"^{_ARTICLE}{_WHAT},? (?:was|were|has been|have been) (?:\w+ly )?(?:{_TOLD})\b.*$", re.IGNORECASE)
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        # "Dr. M was informed of X at M".
        rf"^[^;:]{{0,60}}?\b(?:(?:was|were|has been|have been|is|are) )?(?:\w+ly )?{_GOT}(?:(?:via|by|over|at|on) [^,;]{{1,40}}? )?"
        rf"(?:of|about|regarding|with|for|that|re:?) {_TOLD_WHAT}{_HOW}",
        # "I spoke with Dr. M about X".
        rf"^(?:i|we|dr\.? {MARK}|{MARK}) (?:have )?(?:spoke|spoken|talked) (?:with|to) [^,;]{{1,40}}? (?:about|regarding|concerning) "
        rf"{_TOLD_WHAT}{_HOW}",
        # "Telephone notification to Dr. M about X".
        rf"^(?:\w+ )?(?:notification|communication|discussion|page|call|conversation) (?:to|with|of) [^;]{{1,80}}? (?:about|regarding|concerning) "
        rf"{_TOLD_WHAT}{_HOW}",
        # "I discussed X with Dr. M".
        rf"^(?:i|we|dr\.? {MARK}|{MARK}) (?:have )?(?:personally )?(?:discussed|communicated|reported|conveyed|relayed) "
        rf"{_TOLD_WHAT},? (?:with|to) (?:dr|the|nurse|{MARK}).*$",
        # "As discussed with Dr. M at M, X".
        rf"^(?:as|per|after|following|upon|during|in)\b[^;]{{0,160}}?\b(?:{_TOLD}|conversation)\b[^;,]{{0,120}}, (?P<what>[^;]{{4,300}})$",
    )
)
_VERB = re.compile(r"\b(?:is|are|was|were|has|have)\b", re.IGNORECASE)
_NO_FINDING = re.compile(
    r"^(?:(?:the|these|this|all|above|mentioned|critical|new|final|wet|preliminary|updated|revised|urgent|important|pertinent|relevant|"
    r"findings?|results?|impressions?|diagnos[ei]s|case|study|report|exam\w*|images?|reads?|interpretation|recommendations?|information|and|"
    r"of|on|as|with|dr|drs|it|they|team|resident|physician|nurse|patient|discrepancy|change|changes|above-mentioned|same|such|at|time|"
    r"discussion|conversation|telephone|phone|by|he|she|who|service|discovery|observation|today|referring|attending|ordering|covering|primary|care|provider|"
    r"intern|fellow|surgery|surgical|medical|ed|icu|clinical|radiology|md|np|rn|pa|clinician|staff|call|house|officer)\W*)+$",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    rf" ?\([^()]{{0,200}}\b(?:{_TOLD}|aware)\b[^()]{{0,200}}\)| ?[—–][^—–]{{0,100}}\b(?:{_TOLD}|aware)\b[^—–]{{0,100}}[—–]", re.IGNORECASE
)
_LABEL = re.compile(
    r"^(?:critical|urgent|important|significant|unexpected) (?:results?|findings?):? (?=[a-z])(?!was|were|has|have|is|are|of)",
    re.IGNORECASE,
)
_BEFORE_COLON = re.compile(r"([^:;]{5,160}?): (?=[^\W\d_])")
_FINDING = re.compile(
    r"\b(?:pneumo\w+|hemothorax|hydropneumo\w+|effusions?|(?:o?edema)|consolidations?|atelectasis|collapse|nodules?|mass|masses|fractures?|opacit\w+|"
    r"malposition\w*|free air|perforation|dissection|aneurysm|cardiomegaly|infiltrates?|lesions?|cavit\w+|tubes?|lines?|catheters?|picc|"
    r"ett|leads?|tip|foreign body|embol\w+|hemorrhage|abscess|carina|bronchus|ptx|chf|tuberculosis|widening|enlarg\w+|metasta\w+)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]{3}")
_PARTS = re.compile(r"(?<=[^\s;]); |(?<=\S) // | -{1,2} ")


def told_finding(sentence: str) -> bool:
    """Whether a sentence on who was told also names something seen."""
    return _FINDING.search(sentence) is not None


def without_telling(sentence: str) -> str | None:
    """What a sentence says besides who was told; None if that is nothing. May still hold markers."""
    sentence = _LABEL.sub("", _ASIDE.sub("", sentence))
    colon = _BEFORE_COLON.match(sentence)
    if colon and COMMUNICATION.search(colon.group(1)):
        sentence = sentence[colon.end() :]
    if not COMMUNICATION.search(sentence):
        return sentence
    kept = [said for part in _PARTS.split(sentence) if (said := _said(part))]
    if not kept:
        return None
    text = "; ".join(part.rstrip(" .") for part in kept)
    return text[0].upper() + text[1:] + "."


def _said(part: str) -> str | None:
    if not COMMUNICATION.search(part):
        return part if _says_something(part) else None
    if what := _finding_of(_PRESENCE, part):
        return what
    for tail in (_WHOLE_TAIL.search(part), _PERSON_TAIL.search(part)):
        if tail and tail.start() >= 8 and _tells_finding(before := part[: tail.start()].rstrip(" ,;-(")):
            return before
    if what := next((what for form in _FORMS if (what := _finding_of(form, part))), ""):
        return what
    what = _finding_of(_PASSIVE, part)
    return what if what and not (_VERB.search(what) or MARK in what) else None


def _finding_of(form: re.Pattern[str], part: str) -> str:
    match = form.match(part)
    what = match.group("what").strip(" ,.") if match else ""
    return what if _tells_finding(what) else ""


def _tells_finding(text: str) -> bool:
    return not COMMUNICATION.search(text) and _says_something(text)


def _says_something(text: str) -> bool:
    return _WORD.search(text) is not None and not _NO_FINDING.match(text)
