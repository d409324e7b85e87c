"""What the repair keeps of Open-I reports and what it breaks, measured by code of its own: none of the repair's rules is used here.

Facts are kept if the output has them, with the same polarity, hedge, side and change, in the same order; see ``open_i_separable`` for
which facts of a marked sentence are asked for. A defect is new if the output has it more often than the input.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from open_i_facts import key, located, split_sentences
from open_i_separable import separable

from cxrguard.sanitizer.conventions import MARK, collapse, load_conventions
from cxrguard.sanitizer.fact_check import Fact

SECTIONS = ("indication", "comparison", "findings", "impression")
CONVENTIONS = load_conventions(["open_i"])


@dataclass
class Tally:
    """Facts of one class of sentences: how many there were, how many are left, and which sentences lost any."""

    facts: int = 0
    kept: int = 0
    losses: list[tuple[str, Fact, str]] = field(default_factory=list, repr=False)  # sentence, fact, output

    def add(self, sentence: str, fact: Fact, kept: bool, output: str) -> None:
        self.facts += 1
        self.kept += kept
        if not kept:
            self.losses.append((sentence, fact, output))

    @property
    def share(self) -> float:
        return self.kept / self.facts if self.facts else 1.0


@dataclass
class Measures:
    """Over many texts."""

    unmarked: Tally = field(default_factory=Tally)
    separable: Tally = field(default_factory=Tally)
    inseparable: Tally = field(default_factory=Tally)
    defects: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[str, str, str, str]] = field(default_factory=list, repr=False)  # kind, snippet, text, output
    refused: int = 0
    texts: int = 0


def measure(texts: Sequence[str], sanitize: Callable[[str], Any]) -> Measures:
    """Sanitizes each text; ``sanitize`` gives an object with ``text`` and ``status``."""
    measures = Measures()
    for text in texts:
        measures.texts += 1
        shown = collapse(text, CONVENTIONS).text
        result = sanitize(text)
        measures.refused += result.status == "refused"
        _compare(measures, shown, result.text)
        for kind, snippet in new_defects(text, result.text):
            measures.defects[kind] += 1
            measures.broken.append((kind, snippet, text, result.text))
    return measures


def _compare(measures: Measures, shown: str, output: str) -> None:
    before, after = split_sentences(shown), split_sentences(output)
    for tag, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "insert":
            continue
        there = [key(fact) for sentence in after[c:d] for fact, _ in located(sentence)]
        facts = [(sentence, fact, free) for sentence in before[a:b] for fact, free in _facts(sentence)]
        if tag == "equal":
            kept = set(range(len(facts)))
        else:
            blocks = SequenceMatcher(None, [key(fact) for _, fact, _ in facts], there, autojunk=False).get_matching_blocks()
            kept = {block.a + i for block in blocks for i in range(block.size)}
        for i, (sentence, fact, free) in enumerate(facts):
            tally = measures.unmarked if MARK not in sentence else measures.separable if free else measures.inseparable
            tally.add(sentence, fact, i in kept, " ".join(after[c:d]))


def _facts(sentence: str) -> list[tuple[Fact, bool]]:
    return separable(sentence) if MARK in sentence else [(fact, True) for fact, _ in located(sentence)]


_FUNCTION = (
    r"(?:of|in|on|at|by|for|from|with|without|to|into|within|between|near|over|under|than|since|as|per|via|through|during|against|"
    r"until|the|an?|and|or|nor|but|versus|that|which|because)"
)
_BARE = (
    r"(?:is|are|was|were|be|been|being|has|have|had|may|might|could|can|should|would|will|shows?|demonstrates?|measures?|measuring|"
    r"represents?|representing|reflects?|reflecting|suggests?|suggesting|appears?|seems?|remains?|reveals?|includes?|including|contains?|"
    r"containing|involves?|involving|indicates?|indicating|projects?|overlies|overlying|extending)"
)
_LEFT_HANGING = (
    r"(?:adjacent|due|secondary|consistent|compatible|suspicious|related|similar|associated|prior|previous|recent|distal|proximal|superior|"
    r"inferior|anterior|posterior|indeterminate|\d(?:st|nd|rd|th)|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth)"
)
_IN_SENTENCE = {
    "function word before stop": re.compile(rf"\b{_FUNCTION}\s*[.,;](?!\w)"),
    "function word at end": re.compile(rf"\b(?:{_FUNCTION}\s*|(?:however|although|though|while|whereas|if|when)\s*[.;]?\s*)$"),
    "bare verb at end": re.compile(rf"\b{_BARE}\s*[.!?;]?\s*$"),
    "doubled punctuation": re.compile(r"[.,;:!?](?<!Dr\.)(?<!\b[ap]\.m\.)\s*[.,;:!?]+"),
    "leading punctuation": re.compile(r"^\s*[.,;:!?)\]/%&>]+"),
    "empty brackets": re.compile(r"[(\[<{][\s.,;:/-]*[)\]>}]"),
}
BOUND = (*_IN_SENTENCE, "lower-case start")
# Not in the bound, but as ugly: counted to be told.
_ALSO = {
    "two function words": re.compile(
        r"\b(?:of|at|by|from|with|over|than|since|the|an?|is|are|was|were)\s(?:of|at|by|from|with|than|since|and|or|to|for|over|is|are)\b",
        re.I,
    ),
    "left hanging": re.compile(rf"\b{_LEFT_HANGING}\s*[.;]?\s*$"),
}
_LOWER = re.compile(r"(?:\d{1,2}[.)]\s*)?[a-z]")


def _defects(text: str) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for sentence in split_sentences(text):
        for kind, pattern in (_IN_SENTENCE | _ALSO).items():
            found.update((kind, " ".join(match.group().split())) for match in pattern.finditer(sentence))
        found["lower-case start", ""] += bool(_LOWER.match(sentence))
    # A lone "." is a sentence of its own here, and no doubled stop within one.
    found.update(("doubled punctuation", match.group()) for match in re.finditer(r"[.,;:!?]\s+[.,;:!?](?=\s|$)", text))
    return found


def new_defects(before: str, after: str) -> list[tuple[str, str]]:
    """Defects of ``after``, as kind and words, that ``before`` does not have as often."""
    return sorted((_defects(after) - _defects(before)).elements()) if after else []


def texts_of(report: dict[str, str]) -> dict[str, str]:
    """The sections of a report that are not empty, and the training prompt made of findings and impression."""
    found = {section: report[section] for section in SECTIONS if report[section]}
    if prompt := " ".join(found[section].strip() for section in ("findings", "impression") if section in found):
        found["prompt"] = prompt
    return found
