"""A piece of text as the parts that are repaired one by one: markers glued to words, glued sentences, clauses that stand alone."""

from __future__ import annotations

import re

from cxrguard.sanitizer.conventions import MARK
from cxrguard.sanitizer.segments import ABBREVIATION
from cxrguard.sanitizer.tags import CLAUSE, is_known, tag_of, tagged

_ITEM = re.compile(r"(?:\d{1,2}[.)]|[-*•]) ")
_GLUED = re.compile(rf"(?P<left>[A-Za-z]{{2,20}})?{MARK}(?P<right>[A-Za-z]{{2,20}})?")
_STUCK = re.compile(rf"(?<=[a-z)])([.:;])(?={MARK}|[A-Z][a-z])")
_COLON = re.compile(r"(?<=[a-z]):(?=[a-z]{3})")
_MARK_SENTENCE = re.compile(rf"(?<=[.!?;:] ){MARK} ?(?=[A-Z][a-z])|^{MARK} ?(?=[A-Z][a-z])")
_WET_READ = re.compile(
    rf"^(?:WET READ|PRELIM\w*)(?: (?:VERSION|AUDIT|REPORT|READ))?(?: ?#\d{{1,2}})?(?: by)?(?: {MARK})*(?: ?\d{{1,2}}:\d{{2}}(?: ?[AP]M)?)?(?: on)?(?: {MARK})*[:.]? (?![AP]M\b)(?=[A-Z\d(])"
)
_COMPARISON = re.compile(rf"^Comparison:? {MARK}(?:,? {MARK}){{0,4}}[.:,]? (?=[A-Z][a-z])")
_NEW_SENTENCE = re.compile(r"(?<=[a-z\d)%]{2})[.!?]+ +(?=[a-z])|[.!?]+ +(?=[A-Z][a-z]|No )")
_ABBREVIATED = re.compile(
    rf"(?:^|[\s(,{MARK}])(?:{ABBREVIATION}|no|[ap]\.m|[ap]m|hrs?|yrs?|mos?|wks?|[a-z](?:\.[a-z])*)$",
    re.IGNORECASE,
)
_CLAUSE = re.compile(rf"{CLAUSE}|//|,(?=EB)")
# What starts so hangs on what stood before.
_HANGS = frozenset(["this", "it", "they", "these", "that", "both", "either", "its", "their", "another", "others", "former", "latter", "so"])


def item_and_sentences(flat: str) -> tuple[str, list[str]]:
    """The list number of a piece in which all blanks are single, or "", and the sentences behind it."""
    item = _ITEM.match(flat)
    head = item.group() if item else ""
    return head, sub_sentences(unglue(without_lead(flat[len(head) :])))


def unglue(text: str) -> str:
    """Sets blanks where a marker is glued to whole words or between sentences; half a word stays glued."""
    text = _STUCK.sub(r"\1 ", _GLUED.sub(_spaced, text))
    return _MARK_SENTENCE.sub("", _COLON.sub(": ", text))


def _spaced(match: re.Match[str]) -> str:
    left, right = match.group("left") or "", match.group("right") or ""
    if not left and not right:
        return match.group()
    known = [_known(word, short=bool(left and right)) for word in (left, right) if word]
    apart = all(known) if len(known) == 2 and min(len(left), len(right)) < 4 else any(known)
    if not apart and right[:1].isupper() and right[1:].islower() and not left:
        apart = True
    return f"{left}{' ' if left else ''}{MARK}{' ' if right else ''}{right}" if apart else match.group()


def _known(word: str, short: bool) -> bool:
    """Whether this is a whole word of a closed class or a participle, not the half of a longer one."""
    return (len(word) > 3 or short) and (is_known(word) or tag_of(word) == "T")


def without_lead(text: str) -> str:
    """The text without what says who read it first, or what was compared, before the sentence proper."""
    return _COMPARISON.sub("", _WET_READ.sub("", text))


def sub_sentences(text: str) -> list[str]:
    """The sentences in a piece that the cautious splitter left whole; only those told apart by a stop."""
    found, start = [], 0
    for stop in _NEW_SENTENCE.finditer(text):
        before = text[start : stop.start()]
        if len(before) < 4 or _ABBREVIATED.search(before[-12:]):
            continue
        found.append(text[start : stop.end()].strip())
        start = stop.end()
    return [*found, text[start:]] if found else [text]


def clauses(text: str) -> list[tuple[str, str]]:
    """Clauses with the separator before each: what may stand without the others."""
    t = tagged(text)
    found: list[tuple[str, str]] = []
    start, lead = 0, ""
    for cut in _CLAUSE.finditer(t.tags):
        at = t.spans[cut.start()][0]
        if cut.start() and at > start and text[at : t.spans[cut.end() - 1][1]].lower().strip(", ") not in ("or", "nor", "and/or"):
            found.append((lead, text[start:at].strip()))
            start = t.spans[cut.end()][0] if cut.end() < len(t.spans) else len(text)
            lead = text[at:start].strip()
    return [*found, (lead, text[start:].strip())]


def stands_alone(clause: str) -> bool:
    """Whether a clause says something without the one before it."""
    t = tagged(clause)
    if t.word(0) in _HANGS or t.tags[:1] in "KR":
        return False
    return bool(re.search("[BVNT]", t.tags)) or t.word(0) == "positive"
