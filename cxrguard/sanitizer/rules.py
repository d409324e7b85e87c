"""Phrase rules: what may be taken out of a marked sentence while the rest stays true.

Each works on a sentence with single blanks in which every marker is :data:`MARK`. A rule writes :data:`HOLE` where it took
something out, so that the tidying knows where to mend articles and commas. All repetition is bounded: linear time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from cxrguard.sanitizer.conventions import MARK

HOLE = "\ue0fe"

_TIME = r"\d{1,2}:\d{2}(?: ?[ap]\.?m\b\.?)?"
_WHEN = rf"{MARK}(?:,? (?:at |and |to )?(?:{MARK}|{_TIME})){{0,3}}"
_WORDS = (
    r"(?:(?:the|an?|this|his|her|patient's|prior|previous|earlier|most|recent|last|outside|same|study|studies|exams?|examinations?|"
    r"films?|radiographs?|x-rays?|radiography|chest|ct|pa|ap|lateral|and|frontal|portable|from|of|on|dated|performed|obtained|at|"
    r"multiple|priors?|images?|scan|date|day|as|far|back) ){0,12}"
)
_PHRASE = _WORDS + _WHEN
_COMPARED = r"(?:(?:as |when )?compar(?:ed|ing|ison)(?: is made)? (?:with|to)|in comparison (?:with|to)|relative to)"
_CHANGE = r"unchanged|changed?|stable|improve[ds]?|improvement|worse|worsen(?:ed|ing)|increased?|decreased?|progress(?:ed|ion)|different"
_END = r"(?= ?[.;!?]? ?$)"
_PERSON = r"woman|man|female|male|lady|gentleman|girl|boy|patient|person|infant|child|[FM]"
_THING = r"(?:[a-z-]{3,15} ){0,2}(?:nodules?|mass|opacity|opacities|lesion|granuloma|effusion|pneumothorax|consolidation)\b"
_SIZE = rf"(?:\d{{1,3}}(?:\.\d{{1,2}})?|{MARK})"

# Said to a person, not seen in the picture: the sentence holds times and names, and goes whole.
COMMUNICATION = re.compile(
    r"\b(?:discussed|communicat\w+|notif\w+|telephon\w+|phoned?|paged?|called|informed|conveyed|relayed|d/w|spoke|reported (?:to|by)|"
    r"dictated|signed|reviewed (?:by|with)|made aware|e-?mail\w*)\b",
    re.IGNORECASE,
)
NEGATION = re.compile(r"\b(?:no|not|without|neither|nor|never|den(?:y|ies)|negative|absen\w+|free|n't)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Rule:
    """A substitution.

    Attributes:
        name: Goes into the edit record.
        pattern: What is replaced.
        new: The replacement.
        unless: The rule does not apply to a sentence in which this is found.

    """

    name: str
    pattern: re.Pattern[str]
    new: str | Callable[[re.Match[str]], str]
    unless: re.Pattern[str] | None = None


def _rule(name: str, pattern: str, new: str = HOLE, unless: re.Pattern[str] | None = None) -> Rule:
    return Rule(name, re.compile(pattern, re.IGNORECASE), new, unless)


# Whoever compares sizes ("smaller than", "from 3 cm to") needs the size: no size is taken out of such a sentence.
_SIZE_MATTERS = re.compile(
    NEGATION.pattern + r"|\b(?:than|from|to|previous\w*|prior|least|up|[<>])(?:\b|$)|\w*creas\w*|[<>]", re.IGNORECASE
)

RULES: tuple[Rule, ...] = (
    _rule("comparison_lead", rf"^(?:{_COMPARED}|comparison (?:with|to)|since|as of) {_PHRASE}(?:, | (?=there (?:is|are|has)\b))"),
    _rule("date_lead", rf"^on {_WHEN}, "),
    _rule("comparison_aside", rf", ?{_COMPARED} {_PHRASE},(?= (?:is|are|has|have|appears?|remains?)\b)", HOLE, NEGATION),
    _rule("comparison_tail", rf",? (?:{_COMPARED}|since) (?:at )?{_PHRASE}{_END}"),
    _rule("change_from", rf"\b({_CHANGE}) from {_PHRASE}{_END}", rf"\1{HOLE}"),
    _rule(
        "study_date",
        rf"\b(ct|mri|radiographs?|study|exam|examination|films?|scan) (?:dated|from|on|performed on) {_WHEN}{_END}",
        rf"\1{HOLE}",
        NEGATION,
    ),
    _rule("age", rf"{MARK}[ -]?(?:years?|yrs?|y)[ /-]?(?:old|o)\b[ -]?(?=(?:{_PERSON})\b)"),
    _rule("age_patient", rf"{MARK}[ -]?(?:years?|yrs?|y)[ /-]?(?:old|o)\b(?= (?:with|who|status|presenting)\b)", f"{HOLE}patient"),
    Rule("age_sex", re.compile(rf"{MARK} ?(?=[FM]\b(?: (?:with|w/|who|s/p|p/w|presenting|status)|[,.]|$))"), HOLE),
    _rule("doctor", rf" by (?:drs?\.?|doctor) {MARK}{_END}"),
    _rule("patient_name", rf"\b(?:mr|mrs|ms|miss)\.? {MARK}(?=(?:'s)? [a-z])", "the patient"),
    _rule("size", rf"(?<=\ba ){_SIZE}(?: ?[cm]m)?(?: ?[x×] ?{_SIZE}){{0,2}}[ -]?[cm]m (?={_THING})", HOLE, _SIZE_MATTERS),
    _rule("x_ray", rf"\b(x)-{MARK}(?![\w{MARK}-])", r"\1-ray"),
    _rule("negation_carrier", rf"\b(no) {MARK} of (?=an? )", r"\1 signs of "),
)

_VERB = r"(?:is|are|has|have|appears?|remains?)\b"
_STANDS_ALONE = re.compile(rf"there {_VERB}|no [a-z]|(?:the )?(?:[a-z]+ ){{1,6}}{_VERB}", re.IGNORECASE)
_CLAUSE_BREAK = re.compile(r"; |, (?:and|but) (?=there (?:is|are)\b)")
# Ties between clauses that dropping one would cut.
_TIED = re.compile(
    r"\b(?:if|whether|unless|should|could|may|might|possibl\w+|probabl\w+|question\w*|either|n?or|neither|due|because|versus|vs|"
    r"concern\w*|suspicious|exclude\w*|rule|latter|former|this|these|it|which|although|otherwise|except|following)\b|:",
    re.IGNORECASE,
)


def whole_clauses(sentence: str) -> str | None:
    """The unmarked clauses of a sentence, if each is a sentence of its own; None if that cannot be told."""
    if COMMUNICATION.search(sentence) or _TIED.search(sentence):
        return None
    clauses = _CLAUSE_BREAK.split(sentence)
    kept = [clause.strip() for clause in clauses if MARK not in clause]
    if not kept or len(kept) == len(clauses) or not all(_STANDS_ALONE.match(clause) for clause in kept):
        return None
    return "; ".join(clause.rstrip(".!? ") for clause in kept) + "."


_DANGLING = re.compile(
    r"(?:^|\W)(?:of|in|with|to|at|on|by|for|from|the|an?|and|or|nor|no|not|without|than|versus|vs|x|is|are|was|were|as|but|if)\W*$"
    r"|^(?:and|or|nor|of|than|to|versus|vs|but)\b",
    re.IGNORECASE,
)
_ARTICLE = re.compile(rf"\b([Aa])n? {HOLE} ?(?=(\w+))")


def tidy(sentence: str) -> str | None:
    """Mends articles, blanks, commas around holes; None if what is left hangs in the air."""
    sentence = _ARTICLE.sub(lambda m: m.group(1) + ("n " if _takes_an(m.group(2)) else " "), sentence).replace(HOLE, "")
    sentence = re.sub(r"\( ?\)", "", sentence)
    sentence = re.sub(r" {2,}", " ", sentence)
    sentence = re.sub(r" ([,.;:!?])", r"\1", sentence)
    sentence = re.sub(r",(?=[,.;])", "", sentence).strip(" ,;")
    if not re.search(r"[^\W\d_]", sentence) or _DANGLING.search(sentence):
        return None
    return sentence


def _takes_an(word: str) -> bool:
    if len(word) == 1:
        return word in "AEFHILMNORSX"
    return bool(re.match(r"[aeiou](?!ni[a-z]|ne\b|se)", word, re.IGNORECASE))
