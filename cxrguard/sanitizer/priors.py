"""References to earlier studies: noun phrases that the pipeline treats exactly as markers (``priors: drop``).

Only studies count. "Prior granulomatous disease", "previous sternotomy" or "previously seen nodule" are the patient's history and
show in the picture.
"""

from __future__ import annotations

import re

from cxrguard.sanitizer.conventions import MARK

_NOUN = (
    r"(?:stud(?:y|ies)|exam(?:ination)?s?|radiographs?|radiography|films?|x-?rays?|cxrs?|scans?|images?|imaging|series|"
    r"tomogra(?:m|ms|phy)|(?:pet[-/\s]?)?cts?|ctas?|mris?|reports?|comparisons?|mammograms?|"
    rf"x-(?:XXXX|{MARK}))"
)
_MODIFIER = (
    r"(?:chest|thoracic|abdominal|abdomen|frontal|lateral|pa|ap|portable|upright|supine|bedside|plain|ct|cta|mri?|pet|computed|digital|"
    r"two-view|2-view|single-view|outside|hospital|radiographic|x-ray|x-rays|dictated|available|comparison|and|&|or|same-day|of the chest|"
    r"cross-sectional|diagnostic|imaging|prior|previous|recent|multiple|several)"
)
_EARLIER = (
    r"(?:(?:immediate(?:ly)?|most|more|multiple|several|remote|available|old|many|numerous) ){0,2}"
    r"(?:prior|previous|earlier|preceding|older|old|recent|outside|comparison|last|yesterday['’]s|last (?:night|week|month|year)'s)"
)
_ARTICLE = r"(?:(?:the|an?|any|his|her|their|patient's|patient’s|these|those|some|all) (?:patient's )?)?"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)\.?"
)
_SAME_DAY = r"(?: (?:today|(?:on )?(?:the |this )?same (?:day|date)|th(?:is|e) (?:day|morning|afternoon|week|month)|in the day))"
_COUNT = r"(?:approximately )?(?:\d{1,3}|an?|one|two|three|four|five|six|several)"
_RELATIVE = (
    rf"(?:earlier(?:{_SAME_DAY}|)|yesterday|(?:the )?(?:previous|prior|preceding|same) day|last (?:night|week|month|year)|"
    rf"{_COUNT} (?:hours?|days?|weeks?|months?|years?) (?:ago|earlier|prior|before))\b"
)
_CALENDAR = (
    rf"(?:\d{{1,2}}[/-]\d{{1,2}}(?:[/-]\d{{2,4}})?|\d{{4}}-\d{{1,2}}-\d{{1,2}}|{_MONTH}(?: \d{{1,2}}(?:st|nd|rd|th)?)?,? \d{{4}}|"
    rf"{_MONTH} \d{{1,2}}|\d{{1,2}} {_MONTH}(?: \d{{4}})?|(?:19|20)\d{{2}})"
)
_MASKED = rf"(?:{MARK}|_{{2,10}}|XXXX)"
_CLOCK = rf"(?:,? (?:at )?(?:\d{{1,2}}:\d{{2}}|{MARK})(?: ?[ap]\.?m\b\.?| hours)?)"
_PERFORMED = r"(?:(?:dated|from|of|on|performed|obtained|done|taken|acquired|made)(?: on| from)? )"
# After a comma a marker is something else: "compared to the prior study, ___ catheter is new".
_DATED = rf"(?:,? \(?{_PERFORMED}?(?:{_RELATIVE}|{_CALENDAR}){_CLOCK}?\)?| {_PERFORMED}?{_MASKED}{_CLOCK}?)"
# "prior CT-guided biopsy" and "previous chest tube" are history.
_NO_STUDY = r"(?![\w'’]|[-/]\w)(?! (?:guided|directed|biops\w+|abnormalit\w+|tube|findings?))"
_OF_CHEST = r"(?: of the (?:chest|abdomen|thorax)\b)?"
_STUDY = rf"{_ARTICLE}(?:{_MODIFIER} ){{0,5}}{_NOUN}{_NO_STUDY}{_OF_CHEST}"
_NAMED = rf"{_ARTICLE}{_EARLIER} (?:{_MODIFIER} ){{0,6}}{_NOUN}{_NO_STUDY}{_OF_CHEST}{_DATED}?"
_BY_TIME = rf"{_STUDY},? (?:{_PERFORMED}){{0,2}}{_RELATIVE}{_CLOCK}?"
# A study of some date may be the one reported on: only what is compared with is an earlier one.
_CHANGE = r"(?:changed?|unchanged|stable|improved|worse|worsened|increased|decreased)"
_COMPARED = rf"(?:compar(?:ed|ing|ison)(?: is made)? (?:with|to)|relative to|{_CHANGE} (?:from|since)|since|than(?: on| in)?|prior to) "
_BY_DATE = rf"{_COMPARED}(?P<dated>{_STUDY}{_DATED})"
_BARE_END = rf"(?=\s*(?:[.,;)]|$)|,? (?:and|with|but|at|in)\b|{_DATED})"
_BARE = rf"(?P<bare>(?:the )?(?:(?:most|more) )?(?:recent )?(?:priors?|previous)){_BARE_END}{_DATED}?"
_BARE_AFTER = rf"\b(?:{_COMPARED}|(?:as|similar|identical|comparison|than|on|from|since) (?:to |with |on )?){_BARE}"
_PRIORS = rf"(?:(?:the |any )?(?:(?:most|more) recent |multiple |several )?priors|the (?:most|more) recent prior)\b{_DATED}?"
_YESTERDAY = rf"\b{_COMPARED}(?P<day>(?:yesterday|earlier today)\b)"


def _over_lines(pattern: str) -> str:
    """Lets every blank of a pattern match a line break too, but not a paragraph's end."""
    gap = r"[\x20]{1,3}|[\x20]?\n[\x20]{0,8}"
    return pattern.replace(" ?", f"(?:{gap}|)").replace(" ", f"(?:{gap})")


_REFERENCE = re.compile(_over_lines(rf"\b(?:{_NAMED}|{_BY_TIME}|{_BY_DATE}|{_PRIORS})|{_BARE_AFTER}|{_YESTERDAY}"), re.IGNORECASE)
# What is under COMPARISON names the earlier study and nothing else: the header rule takes it whole.
_COMPARISON_SECTION = re.compile(r"\b(?:COMPARISONS?|Comparisons?):(?:(?!\n[ \t]*\n|\b[A-Z][A-Z ]{2,30}:)[\s\S]){0,600}")


def find_priors(text: str) -> list[tuple[int, int]]:
    """Start and end of each reference to an earlier study, with its article and date, in order and not overlapping.

    Args:
        text: A report or prompt; markers in it may be replaced by :data:`~cxrguard.sanitizer.conventions.MARK` or not.

    """
    sections = [m.span() for m in _COMPARISON_SECTION.finditer(text)]
    found = []
    i = 0
    for match in _REFERENCE.finditer(text):
        start, end = _core(match)
        while i < len(sections) and sections[i][1] <= start:
            i += 1
        if i == len(sections) or not sections[i][0] <= start < sections[i][1]:
            found.append((start, end))
    return found


def _core(match: re.Match[str]) -> tuple[int, int]:
    """The noun phrase without the words that only prove what it is."""
    name = next((n for n in ("dated", "bare", "day") if match.group(n)), None)
    start = match.start(name) if name else match.start()
    end = match.end(name) if name in ("dated", "day") else match.end()
    # A sentence's own period is no part of "a.m.".
    if match.string[end - 1] == "." and not re.search(r"[ap]\.m\.$", match.string[max(0, end - 4) : end], re.IGNORECASE):
        end -= 1
    return start, end
