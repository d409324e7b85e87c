"""One marked sentence: phrase rules, then structural proposals, each judged for grammar and for facts; else it is dropped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from cxrguard.sanitizer.communication import COMMUNICATION, told_finding, without_telling
from cxrguard.sanitizer.conventions import MARK
from cxrguard.sanitizer.defects import brings_defect
from cxrguard.sanitizer.fact_check import keeps_facts
from cxrguard.sanitizer.parts import clauses, item_and_sentences, stands_alone
from cxrguard.sanitizer.rules import RULES, substitute
from cxrguard.sanitizer.structure import proposals
from cxrguard.sanitizer.tags import tagged
from cxrguard.sanitizer.tidying import HOLE, tidy

# No radiologist's sentence is longer; a longer one is dropped unread, which keeps the rules' time bounded.
MAX_SENTENCE = 1200
_BUDGET = 40
# So many more are tried once one is acceptable.
_FURTHER = 10
# A repair that loses no more words than this is not compared with others.
_FEW = 0
_LOSSES = frozenset(["no_safe_repair", "communication_of_finding"])
_MARKS = re.compile(rf"(?<![xX]-){MARK}(?:[ /-]?{MARK})+")
_VENA_CAVA = re.compile(rf"\b(superior|inferior) {MARK} {MARK}(?= ?[.,;]| ?$)", re.IGNORECASE)
_COMPARED_ONLY = re.compile(
    rf"(?:comparison|correlation|reference) (?:is |was )?(?:made )?(?:with|to)\b[^,;{MARK}]*{MARK}[^,;]*$", re.IGNORECASE
)
_CONTENT = re.compile(r"[^\W\d_]{3,}")
_NOTHING_SAID = re.compile(
    rf"[\W\d_{MARK}]|\b(?:chest|x|ray|xray|radiographs?|pa|ap|lateral|views?|and|portable|comparison|compared?|with|to|from|of|the|a|an|none|prior|previous|"
    r"exam|examination|study|studies|dated|date|time|at|on|in|dr|mr|mrs|ms|md|by|is|was|made|are|ct|film|films|year|years|old|yo|no|since|phone|telephone|patient|name|"
    r"dfddp|clip|reason|radiology|torso|abdomen|pelvis|series|report|reports|available|earlier|days?|weeks?|months?|performed|obtained|outside|hospital|recent|most|scan|scans|"
    r"mrn|dob|accession|number|for|frontal|two|single|am|pm|hours|unknown)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Outcome:
    """What became of a sentence.

    Attributes:
        text: The new sentence; empty if it was dropped.
        rule: Rules that fired, joined by ``+``.
        action: ``repair``, ``drop_sentence``, ``drop_header``, or the sanitizer's action that placed a word or stripped.

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
    head, pieces = item_and_sentences(flat)
    if len(pieces) == 1:
        outcome = _repair_one(pieces[0], complete)
        if not outcome.text and outcome.rule == "no_safe_repair":
            return dropped(sentence, outcome.rule)
        return replace(outcome, text=head + outcome.text) if outcome.text else outcome
    outcomes = [_repair_one(piece, complete) for piece in pieces]
    text = " ".join(that_stand(outcomes))
    if not text:
        return next((outcome for outcome in outcomes if outcome.rule in _LOSSES), outcomes[0])
    if not keeps_facts(flat[len(head) :], text):
        return dropped(sentence, "no_safe_repair")
    rules = dict.fromkeys(rule for outcome in outcomes for rule in outcome.rule.split("+") if rule)
    return Outcome(head + text, "+".join(rules), "repair")


def that_stand(outcomes: list[Outcome]) -> Iterator[str]:
    """The sentences that are left, without a small-lettered one that went on from one that was dropped."""
    lost = False
    for outcome in outcomes:
        lost = not outcome.text or (lost and outcome.text[0].islower() and not stands_alone(outcome.text))
        if not lost:
            yield outcome.text


def _repair_one(body: str, complete: bool) -> Outcome:
    if MARK not in body and not COMMUNICATION.search(body):
        return Outcome(body, "", "repair")
    rest = without_telling(body) if COMMUNICATION.search(body) else body
    if rest is None:
        return Outcome("", "communication_of_finding" if told_finding(body) else "communication", "drop_sentence")
    if rest != body:
        told = _repair_rest(body, rest, complete)
        return told or Outcome("", "communication_of_finding" if told_finding(body) else "communication", "drop_sentence")
    if _COMPARED_ONLY.match(body):
        return dropped(body, "no_safe_repair")
    return _best(body, complete) or dropped(body, "no_safe_repair")


def _repair_rest(body: str, rest: str, complete: bool) -> Outcome | None:
    """What was not communication, repaired if it holds markers; judged against the whole."""
    repaired = _best(rest, complete) if MARK in rest else Outcome(finish(rest, body), "", "repair")
    if repaired is None or not acceptable(body, repaired.text):
        return None
    return Outcome(repaired.text, "+".join(filter(None, ("communication_tail", repaired.rule))), "repair")


def _best(body: str, complete: bool) -> Outcome | None:
    """The sentence repaired as a whole, or clause by clause or without the phrase rules where that keeps more of it."""
    changed, names = apply_rules(body, complete)
    best = _search(body, (changed, names))
    if best and _weight(body) - _weight(best.text) <= _FEW:
        return best
    clause = _by_clauses(body, complete)
    if clause and _weight(clause.text) > (_weight(best.text) if best else 0):
        best = clause
    # A phrase rule that took too much may block what a structural rule can do.
    return best or (_search(body, (body, [])) if changed != body else None)


def _weight(text: str) -> int:
    """How many words say something."""
    return len(_CONTENT.findall(_NOTHING_SAID.sub(" ", text)))


def _by_clauses(body: str, complete: bool) -> Outcome | None:
    """Each marked clause by itself; those kept must say something without those dropped."""
    parts = clauses(body)
    if len(parts) == 1:
        return None
    text, rules, lost = "", ["clause"], False
    for lead, part in parts:
        new = part
        if MARK in part:
            outcome = _search(part, apply_rules(part, complete))
            new = outcome.text if outcome else ""
            rules += outcome.rule.split("+") if outcome else []
        if not new or (lost and not stands_alone(new)):
            lost = True
            continue
        text += (f"{lead} " if lead[:1] in ",;" else f" {lead} ") + _decapitalised(new, part) if text else new
        text = text.rstrip(".") if part is not parts[-1][1] else text
        lost = False
    candidate = finish(text, body)
    return Outcome(candidate, "+".join(dict.fromkeys(rules)), "repair") if text and acceptable(body, candidate) else None


def _decapitalised(new: str, part: str) -> str:
    """The clause as it was written: only what starts the sentence has been given a capital."""
    return new[0].lower() + new[1:] if part[:1].islower() or (part[:1] == MARK and new[1:2].islower()) else new


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
        if rule.completes and not complete:
            continue
        new = substitute(rule, sentence)
        if new != sentence and new.count(MARK) < sentence.count(MARK):
            # The hole at the very start would keep a second "^" rule from matching.
            sentence = re.sub(r"^and ", "", new.removeprefix(HOLE).lstrip(" ,")) if new.startswith(HOLE) else new
            names.append(rule.name)
    return sentence, names


def _search(body: str, start: tuple[str, list[str]]) -> Outcome | None:
    """Depth first over structural proposals, within a budget; the first acceptable sentence wins unless one soon after it keeps more."""
    stack = [start]
    visited: set[str] = set()
    best: Outcome | None = None
    budget, least = _BUDGET, _weight(body)
    while stack and len(visited) < budget:
        sentence, rules = stack.pop()
        if sentence in visited:
            continue
        visited.add(sentence)
        if MARK not in sentence:
            candidate = finish(sentence, body)
            if (best is None or _weight(candidate) > _weight(best.text) + 1) and acceptable(body, candidate):
                budget = min(budget, len(visited) + _FURTHER) if best is None else budget
                best = Outcome(candidate, "+".join(rules), "repair")
                if least - _weight(candidate) <= _FEW:
                    break
            continue
        following = [(new, [*rules, name]) for name, new in proposals(sentence) if new.count(MARK) < sentence.count(MARK)]
        stack += reversed(following)
    return best


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


# "The left side." says nothing.
_SUBJECT = re.compile(
    r"^(?:(?:the|both|left|right|bilateral|upper|lower|mid|middle|visualized|remaining|remainder|and|of|lungs?|heart|mediastin\w+|hil(?:a|um|ar)|side|"
    r"aorta|chest|bases?|apex|apices|lobes?|fields?|zones?|pleura|pleural|bones?|osseous|bony|structures?|spine|ribs?|abdomen|diaphragms?|silhouette|"
    r"cardiac|cardiomediastinal|contours?|size|thorax|hemithorax|soft|tissues?|diameter|patient|findings?|"
    r"interstitium|parenchyma|sulci|vasculature|vessels?|maybe|once|again|also|all|lines|tubes|this|is|are|in|for|with)\b[ ,]{0,2})+[.]?$",
    re.IGNORECASE,
)


_PLACES_ALONE = re.compile(r"(?:P[DAWT#]+,?)+[.]?$")


def acceptable(original: str, candidate: str) -> bool:
    """Whether a repair says something, brings in no defect of grammar, and passes the fact check."""
    if not candidate or _SUBJECT.match(candidate) or brings_defect(original.replace(MARK, "Xx"), candidate):
        return False
    if _PLACES_ALONE.match(tagged(candidate).tags) and re.search("[BV]", tagged(original).tags):
        return False
    if _headless(candidate) > _headless(original):
        return False
    if not re.search("[W#NVB]", tagged(candidate).tags) and _weight(original) > _weight(candidate):
        return False  # "Unchanged." without what is.
    return keeps_facts(original, candidate)


_HEADLESS = re.compile(
    r"(?:^|[DACoPN,])A+(?=[BVPo])|[DN](?=[BVPoC.,;])|[Po](?=[BV])|o(?=[Po])|DA+(?=G)|(?:^|;)K,?(?=[BV])|^[DAWN#]+K(?=[BV])"
)

# An adjective at the end of its phrase that no noun follows: "with an age-indeterminate.", "in stable."
_BARE = re.compile(r"(?:(?:[DPo]T?|EB)A+|DT)(?=[.;]|$|,(?!A*[WMQ#]))")
_NOUNS = frozenset(["left", "right", "interval", "chest", "both", "other"])


def _headless(sentence: str) -> int:
    """Number of adjectives or determiners that lack their noun."""
    t = tagged(sentence)
    tags = re.sub(r"B[A,T]*(?=[A])", "B", t.tags)
    return len(_HEADLESS.findall(tags)) + sum(t.word(m.end() - 1) not in _NOUNS for m in _BARE.finditer(t.tags))
