"""One marked sentence: phrase rules, then structural proposals, each judged for grammar and for facts; else it is dropped."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from cxrguard.sanitizer.conventions import MARK
from cxrguard.sanitizer.defects import brings_defect
from cxrguard.sanitizer.fact_check import keeps_facts
from cxrguard.sanitizer.rules import COMMUNICATION, HOLE, RULES, communication_tail, tidy
from cxrguard.sanitizer.structure import proposals
from cxrguard.sanitizer.tags import tagged

# No radiologist's sentence is longer; a longer one is dropped unread, which keeps the rules' time bounded.
MAX_SENTENCE = 1200
_BUDGET = 40
_ITEM = re.compile(r"(?:\d{1,2}[.)]|[-*•]) ")
_MARKS = re.compile(rf"(?<![xX]-){MARK}(?:[ /-]?{MARK})+")
_VENA_CAVA = re.compile(rf"\b(superior|inferior) {MARK} {MARK}(?= ?[.,;]| ?$)", re.IGNORECASE)
_CONTENT = re.compile(r"[^\W\d_]{3,}")
_NOTHING_SAID = re.compile(
    rf"[\W\d_{MARK}]|\b(?:chest|x|ray|xray|radiographs?|pa|ap|lateral|views?|and|portable|comparison|compared?|with|to|from|of|the|a|an|none|prior|previous|"
    r"exam|examination|study|studies|dated|date|time|at|on|in|dr|mr|mrs|ms|md|by|is|was|made|are|ct|film|films|year|years|old|yo|no|since|phone|telephone|patient|name|"
    r"mrn|dob|accession|number|for|frontal|two|single|am|pm|hours|unknown)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Outcome:
    """What became of a sentence.

    Attributes:
        text: The new sentence; empty if it was dropped.
        rule: Rules that fired, joined by ``+``.
        action: ``repair`` or ``drop_sentence``.

    """

    text: str
    rule: str
    action: str


@lru_cache(maxsize=32768)
def repair_sentence(sentence: str, complete: bool = True) -> Outcome:
    """Repairs one sentence in which every marker is :data:`MARK`, or drops it where nothing is safe."""
    if len(sentence) > MAX_SENTENCE:
        return dropped(sentence, "too_long")
    flat = _MARKS.sub(MARK, _VENA_CAVA.sub(r"\1 vena cava" if complete else r"\1", " ".join(sentence.split())))
    item = _ITEM.match(flat)
    head = item.group() if item else ""
    body = flat[len(head) :]
    if COMMUNICATION.search(body):
        rest = communication_tail(body)
        kept = finish(rest, body) if rest else ""
        if _acceptable(body, kept):
            return Outcome(head + kept, "communication_tail", "repair")
        return Outcome("", "communication", "drop_sentence")
    changed, names = apply_rules(body, complete)
    return _search(body, head, changed, names) or dropped(body, "no_safe_repair")


def dropped(sentence: str, rule: str) -> Outcome:
    """The outcome of dropping ``sentence``; the rule is ``nothing_said`` where it held only markers, names, dates, study words."""
    said = _CONTENT.search(_NOTHING_SAID.sub(" ", sentence[:MAX_SENTENCE]))
    return Outcome("", rule if said else "nothing_said", "drop_sentence")


def apply_rules(sentence: str, complete: bool) -> tuple[str, list[str]]:
    """Applies the phrase rules in order; a hole that mends nothing is closed at once."""
    names = []
    for rule in RULES:
        if MARK not in sentence:
            break
        if (rule.completes and not complete) or (rule.unless is not None and rule.unless.search(sentence)):
            continue
        new = rule.pattern.sub(rule.new, sentence)
        if new != sentence and new.count(MARK) < sentence.count(MARK):
            # The hole at the very start would keep a second "^" rule from matching.
            sentence = new.removeprefix(HOLE).lstrip(" ,")
            names.append(rule.name)
    return sentence, names


def _search(body: str, head: str, changed: str, names: list[str]) -> Outcome | None:
    """Depth first over structural proposals, within a budget; the first acceptable sentence wins."""
    stack = [(changed, names)]
    if changed != body:
        # A phrase rule that took too much may block what a structural rule can do.
        stack.insert(0, (body, []))
    visited: set[str] = set()
    while stack and len(visited) < _BUDGET:
        sentence, rules = stack.pop()
        if sentence in visited:
            continue
        visited.add(sentence)
        if MARK not in sentence:
            candidate = finish(sentence, body)
            if _acceptable(body, candidate):
                return Outcome(head + candidate, "+".join(rules), "repair")
            continue
        following = [(new, [*rules, name]) for name, new in proposals(sentence) if new.count(MARK) < sentence.count(MARK)]
        stack += reversed(following)
    return None


def finish(sentence: str, original: str) -> str:
    """Mends blanks, commas, articles, the capital and the stop."""
    text = tidy(sentence)
    if not _CONTENT.search(text):
        return ""
    stop = original[-1:]
    if stop in ".!?" and text[-1] not in ".!?":
        text += stop
    first = original.lstrip()[:1]
    return text[0].upper() + text[1:] if first.isupper() or first == MARK or first.isdigit() else text


def _acceptable(original: str, candidate: str) -> bool:
    if not candidate or brings_defect(original.replace(MARK, "Xx"), candidate) or _headless(candidate) > _headless(original):
        return False
    return keeps_facts(original, candidate)


_HEADLESS = re.compile(r"(?:^|[DACoPN,])A+(?=[BVPo])|[DN](?=[BVPoC.,;])")


def _headless(sentence: str) -> int:
    """Number of adjectives or determiners that lack their noun."""
    return len(_HEADLESS.findall(re.sub(r"B[A,T]*(?=[A])", "B", tagged(sentence).tags)))
