"""The last resort for telegraphic texts ("M for one M with vomiting"): what stands whole between their commas and markers.

Runs on what would else be refused. Phrases are kept or dropped as they were written and nothing is joined to what it did not stand
beside: where something between two was dropped, a comma is. What a dropped "no", "?" or "history of" may speak of goes with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from cxrguard.sanitizer.communication import COMMUNICATION
from cxrguard.sanitizer.conventions import MARK
from cxrguard.sanitizer.parts import item_and_sentences
from cxrguard.sanitizer.sentence import MAX_SENTENCE, Outcome, acceptable, apply_rules, dropped, finish, that_stand
from cxrguard.sanitizer.tags import tag_of, tagged
from cxrguard.sanitizer.tidying import HOLE
from cxrguard.sanitizer.vocabulary import CARRIERS, COMPLAINTS, CONDITIONS, HEDGES, PERIOD, POLARITY_RISK, SAYS_NOTHING, SEX, STUDIES

RULE = "telegram"
_MOST_PARTS = 24
_LENGTH = rf"(?:\d{{1,3}}|an?|one|two|three|four|five|six|seven|eight|nine|ten|several|few|many|more than one|{MARK})"
_ABOUT = r"(?:the )?(?:last |past )?(?:about |approximately |more than |over )?"
_DURATION = rf"(?:(?:for|since|over|times) |x ?){_ABOUT}{_LENGTH} ?(?:{PERIOD}\b|{MARK})(?: ago\b)?"
# Phrases end here, also before a diagnosis code.
_APART = re.compile(r"( ?(?:[,;](?!\d)|//) ?| -+ |\.\.+ ?| (?=V?\d{2}\d?\.\d{1,2} [A-Za-z]))")
_WITHIN = re.compile(
    r"(?P<cut> ?\b(?:with|and)\b ?| ?(?:\bw/|&) )|"
    rf"(?P<hole>\S*{MARK}\S*(?: {_DURATION})?|\b(?:for|since|over|times|x) ?(?:{_LENGTH} )?{MARK}\S*)",
    re.IGNORECASE,
)
_LASTS = re.compile(rf"(?:^| )(?:{_DURATION}|x ?\d{{1,3}}(?: {PERIOD})?)$", re.IGNORECASE)
# Before what is done or looked for, what a marker hides is its other name.
_PREOP = re.compile(
    rf"\b(pre-?op(?:erative)?(?: anesthesia)?)(?: [a-z]{{2,20}}al)?(?: {MARK}){{1,4}}(?= for [a-z]| ?[.,;]| ?$)", re.IGNORECASE
)
_WHO = re.compile(rf"^((?:the )?(?:pt|patient)) is an? {MARK} who (?=(?:presents|presented|complains) )", re.IGNORECASE)
_OF_PURPOSE = re.compile(rf"(?<=transplant) {MARK} (?=(?:evaluation|work-?up)\b)", re.IGNORECASE)
# Of a dropped phrase these may speak of what comes next, too.
_GOVERNS = re.compile(
    r"\?|\b(?:history|hx|h/o|fh|fhx|family|mother|father|s/p|status|post|prior|previous|previously|past|no|not|non|without|w/o|neg|negative|denies|denied|deny|"
    r"absent|r/o|rule|rle|eval|evaluate|evaluation|exclude|assess|for|possible|possibly|probable|probably|likely|unlikely|question|suspected|suspicion|concern|"
    r"rather|risk|exposed|exposure|contact|screening|screen|follow-?up|f/u|resolved|if|or|nor|either|versus|vs|please|known|to|normal|treated|unable|never|"
    r"absence|free|clear|cleared|lack|lacks|lacking|nothing|excluding|except|allergic|allergies|wife|husband|son|daughter|sister|brother|better|improved)\b",
    re.IGNORECASE,
)
_DENIES = re.compile(r"\b(?:no|not|non|without|w/o|neg|negative|denies|denied|never|unable)\b", re.IGNORECASE)
_OR = re.compile(r"\b(?:n?or|versus|vs)\b|[a-z]{2}/", re.IGNORECASE)
_SEX = re.compile(rf"(?:an? )?(?:{SEX})", re.IGNORECASE)
_DISEASE = re.compile(r"[a-z]{3,}(?:itis|osis|emia|oma|algia|pnea|ectomy|otomy|plasty|pathy|ptysis|oxia)", re.IGNORECASE)
_CODE = re.compile(r"V?\d{2,3}\.\d{1,2}", re.IGNORECASE)
_PASSED_OUT = re.compile(r"passed out", re.IGNORECASE)
_NOUNS = re.compile(r"[^\W\d_][\w'/-]+")


@dataclass(frozen=True)
class _Part:
    """A phrase, or the markers between two.

    Attributes:
        text: As written.
        lead: The separator before it.
        clause: Its number among the parts between semicolons.
        whole: It is all that stands between two commas or the like.
        before: A marker stands right before it.
        after: A marker stands right behind it.

    """

    text: str
    lead: str
    clause: int
    whole: bool = False
    before: bool = False
    after: bool = False


@lru_cache(maxsize=4096)
def repair_telegram(sentence: str, complete: bool = True) -> Outcome:
    """What stands by itself in a sentence without a finite verb in which every marker is :data:`MARK`; else it is dropped.

    Args:
        sentence: One sentence with markers.
        complete: Whether a phrase rule may write a closed-class word in a marker's place.

    """
    flat = " ".join(sentence.split())
    if len(flat) > MAX_SENTENCE:
        return dropped(sentence, "too_long")
    head, pieces = item_and_sentences(flat)
    text = " ".join(that_stand([Outcome(_kept(piece.strip().lstrip(".,; "), complete), RULE, "repair") for piece in pieces]))
    return Outcome(head + text, RULE, "repair") if text else dropped(sentence, "no_safe_repair")


def _kept(piece: str, complete: bool) -> str:
    if (shorter := _WHO.sub(r"\1 ", piece)) != piece and MARK not in shorter and acceptable(piece, finish(shorter, piece)):
        return finish(shorter, piece)
    # Whoever tells somebody, a verb, and a clause that limits another make no telegram.
    if COMMUNICATION.search(piece) or re.search(r"[BVKRE:()]", tagged(piece).tags):
        return ""
    if MARK not in piece:
        return piece
    changed, _ = apply_rules(_OF_PURPOSE.sub(" ", _PREOP.sub(r"\1", piece)), complete)
    for start in dict.fromkeys((changed, piece)):
        for text in _candidates(start):
            candidate = finish(text, piece)
            if acceptable(piece, candidate):
                return candidate
    return ""


def _candidates(text: str) -> Iterator[str]:
    """All that stands by itself; then without one of these; then each alone, the longest first."""
    if MARK not in text:
        yield text.replace(HOLE, " ")
        return
    parts = _parts(text.replace(HOLE, " "))
    if len(parts) > _MOST_PARTS:
        return
    able = [i for i, part in enumerate(parts) if _stands(part)]
    sets = [able, *(able[:i] + able[i + 1 :] for i in range(len(able))), *([i] for i in sorted(able, key=lambda i: -len(parts[i].text)))]
    for chosen in sets:
        if chosen := _ungoverned(parts, chosen):
            yield _joined(parts, chosen)


def _parts(text: str) -> list[_Part]:
    found: list[_Part] = []
    clause, lead = 0, ""
    for i, stretch in enumerate(_APART.split(text.strip(" .,;"))):
        if i % 2:
            lead = stretch
            clause += any(sign in stretch for sign in (";", "//"))
        elif MARK not in stretch:
            found += [_Part(stretch.strip(), lead, clause, whole=True)] if stretch.strip() else []
        else:
            found += _within(stretch, lead, clause)
    return found


def _within(stretch: str, lead: str, clause: int) -> Iterator[_Part]:
    """A stretch with markers, cut at these and at "with" and "and"."""
    start, before = 0, False
    for cut in [*_WITHIN.finditer(stretch), None]:
        end = cut.start() if cut else len(stretch)
        hole = bool(cut and cut.group("hole"))
        if text := stretch[start:end].strip():
            yield _Part(_closed(text) if hole else text, lead, clause, lead.strip() == "with" and not hole, before, hole)
            lead, before = " ", False
        if cut is None:
            return
        if hole:
            yield _Part(cut.group(), lead, clause)
        lead, before, start = (" " if hole else cut.group()), hole, cut.end()


def _closed(text: str) -> str:
    """What stands before a marker without what was the marker's: "dyspnea chronic", "headache chest"."""
    t = tagged(text)
    end = len(t.tags)
    while end and (t.tags[end - 1] in "AoPDC" or (t.word(end - 1) in SAYS_NOTHING - STUDIES and t.word(end - 2) in COMPLAINTS)):
        end -= 1
    # What is dropped here may not be what speaks of the rest: "fever negative".
    whole = not end or _PASSED_OUT.search(text) or _GOVERNS.search(t.slice(end, len(t.tags)))
    return text if whole else t.slice(0, end)


def _stands(part: _Part) -> bool:
    """Whether a phrase says something without what stands around it."""
    if MARK in part.text or not part.text:
        return False
    if _SEX.fullmatch(part.text) or _PASSED_OUT.fullmatch(part.text) or (part.whole and _CODE.fullmatch(part.text)):
        return True
    if part.after and _DENIES.search(part.text):
        return False  # It may be more or less that is denied.
    body = _LASTS.sub("", part.text)
    t = tagged(body)
    if not t.tags or not (t.tags[0] in "AWN#?DHGT" or _GOVERNS.match(body)) or t.word(0) in CARRIERS - HEDGES:
        return False
    if part.before and t.word(0) in POLARITY_RISK:
        return False
    nouns = [word.lower() for word in _NOUNS.findall(body)]
    last = t.word(len(t.tags) - 1)
    if part.whole and (t.tags[0] not in "GT" or not CONDITIONS.isdisjoint(nouns)):
        return t.tags[-1] in "WGT#" and any(word not in SAYS_NOTHING and tag_of(word) in "WGT" for word in nouns)
    if last in (COMPLAINTS if part.after else CONDITIONS) or _DISEASE.fullmatch(last) or body.lower().endswith("shortness of breath"):
        return t.tags[0] != "G" or last == t.word(0)
    return last in SAYS_NOTHING and len(nouns) > 1 and not STUDIES.isdisjoint(nouns)


def _ungoverned(parts: Sequence[_Part], chosen: Sequence[int]) -> list[int]:
    """The chosen without those of which a part that goes may speak; a marker may also hide the "no" of an "or"."""
    kept: list[int] = []
    governed = hidden = False
    for i, part in enumerate(parts):
        if i in chosen and not governed and not (hidden and _OR.search(part.text)):
            kept.append(i)
            continue
        hidden = hidden or MARK in part.text
        governed = governed or bool(_GOVERNS.search(_LASTS.sub("", part.text)))
    return kept


def _joined(parts: Sequence[_Part], chosen: Sequence[int]) -> str:
    text = parts[chosen[0]].text
    for last, i in pairwise(chosen):
        part = parts[i]
        if i == last + 1 or (_SEX.fullmatch(parts[last].text) and part.lead.strip() == "with"):
            text += f"{part.lead}{part.text}"
        else:
            text += f"{';' if part.clause != parts[last].clause else ','} {part.text}"
    return text
