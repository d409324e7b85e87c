"""Phrase rules: whole phrases around a marker whose removal leaves the rest of the sentence true.

Each works on a sentence with single blanks in which every marker is :data:`MARK`. A rule writes :data:`HOLE` where it took
something out, so that the tidying knows where to mend. All repetition is bounded: linear time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from cxrguard.sanitizer.conventions import MARK

HOLE = "\ue0fe"

_CLOCK = r"\d{1,2}[:.]\d{2}(?: ?[ap]\.?m\b\.?)?|\d{1,2} ?[ap]\.?m\b\.?|noon|midnight|\d{4} (?:hours|hrs)"
_M = rf"{MARK}(?:[/:-]{MARK})*"
_TIME_MARK = rf"{_M}(?: ?[ap]\.?m\b\.?| (?:hours|hrs)\b| o'clock)?"
_WHEN = rf"(?:approximately |around |about )?(?:{_TIME_MARK}|(?:{_CLOCK}) (?:on|of) {_M})(?:,? (?:at |and |to |on |of |through |approximately )?(?:{_TIME_MARK}|{_CLOCK})){{0,4}}"
_STUDY = (
    r"studies|study|exams?|examinations?|films?|radiographs?|x-?rays?|radiography|radiographic|ct|cta|mri|mr|pet|pet-ct|scans?|images?|imaging|"
    r"tomogram|tomography|scout|views?|cxr|series|report|visit|admission|topogram|priors?|comparison|comparisons"
)
_BEFORE = (
    r"the|an?|this|that|his|her|patient's|prior|previous|earlier|most|recent|last|latest|outside|same|chest|thoracic|abdominal|abdomen|pelvis|pa|ap|"
    r"lateral|and|frontal|portable|from|of|on|dated|performed|obtained|taken|acquired|done|multiple|several|date|day|as|far|back|"
    r"available|nearest|immediate|preceding|remote|old|older|single|two|upright|supine|semi-upright|torso|radiographs?|at|in|initial|baseline|"
    r"preoperative|postoperative|hospital|reference|made"
)
_WORDS = rf"(?:(?:{_BEFORE}|{_STUDY}),? ){{0,12}}"
_AFTER = rf"(?:'s)?(?: (?:chest|thoracic|abdominal|portable|ap|pa|frontal|lateral|and|prior|outside|hospital|{_STUDY})\b){{0,6}}"
_PHRASE = rf"{_WORDS}{_WHEN}{_AFTER}"
_COMPARED = (
    r"(?:(?:as |when |if )?(?:allowing for differences in technique,? )?(?:compar(?:ed|ing|ison|able)|correlat(?:ed|ion))(?: is| was)?(?: made| is made| was made)? (?:with|to|of|against)|"
    r"in (?:direct )?comparison (?:with|to|of)|with comparison to|by comparison (?:with|to)|relative to|as against|with reference to|in contrast to)"
)
_CHANGE = (
    r"unchanged|changed?|changes|stable|improved?|improving|improvement|worse|worsen(?:ed|ing)|increased?|decreased?|larger|smaller|progress(?:ed|ion)|different|"
    r"similar|resolved|persistent|new|enlarged|advanced|lower|higher|cleared|clearing|removed|inserted|placed|repositioned|difference"
)
_DOT = r"(?= ?[.;!?)]| ?$)"
_STOP = r"(?= ?[.,;!?)]| ?$)"
_PERSON = r"woman|man|female|male|lady|gentleman|girl|boy|patient|pt|person|infant|child|neonate|[FM]"
_AGE = rf"{MARK}(?:[ -]?(?:years?|yrs?|yr?|y|months?|mo|weeks?|days?))?[ /.-]{{0,2}}(?:old|o|of age)\b\.?,?"
_YO = rf"(?:{_AGE}|{MARK}[ -]?(?:yo|y/o|y\.o\.?|yrs?|years?|-?yo)\b)"
_N = r"\d{1,4}(?:\.\d{1,3})?"
_UNIT = r"(?:[cm]m|millimeters?|centimeters?)"
_SIZE = rf"(?:{_N}|{MARK})"
_ABOUT = r"(?:approximately |about |roughly |nearly |up to |at least |at most |less than |more than |greater than |larger than |maximally |~ ?)"
_COMM = (
    r"discuss(?:ed|ion)|communicat(?:ed|ion)|notif(?:ied|ication)|telephon(?:ed|e|ically)|phoned?|paged?|called|informed|conveyed|relayed|d/w|"
    r"spoke|spoken|reported (?:to|by)|e-?mail(?:ed)?|made aware|alerted|read back|readback|verbally|acknowledged|posted to|flagged to"
)
_MODIFIED = r"definite|definitive|acute|focal|radiographic|convincing|other|gross|obvious|clear|significant|large|new|discrete|overt|frank|specific|suspicious"

# Said to a person, not seen in the picture: the sentence holds times and names, and goes whole.
COMMUNICATION = re.compile(
    rf"\b(?:{_COMM}|dictated|transcribed|electronically signed|signed by|reviewed (?:by|with|and)|attending|wet read|critical results?|preliminary (?:report|read)|"
    r"interpreted by|telephone|dr\.? \S{1,20} (?:was|has been|is) (?:aware|notified))\b",
    re.IGNORECASE,
)
_COMM_TAIL = re.compile(
    rf"(?:[,;]| -+| \() ?(?:and |which |a finding |findings? |this |these |results? |as |the |were |was |have |has |had |been |is |are |immediately |subsequently |also |that ){{0,6}}"
    rf"(?:{_COMM})\b.*$|,? (?:and|which) (?:was |were |has been |have been )?(?:then |immediately |subsequently )?(?:{_COMM})\b.*$",
    re.IGNORECASE,
)
_COMM_OF = re.compile(
    rf"^(?:the )?(?:findings?|results?|presence|impression|diagnosis|new finding|critical finding) of (?P<what>[^{MARK},;:]{{4,160}}?) (?:was|were|has been|have been|is|are) (?:{_COMM})\b",
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
        completes: The rule writes a word that was not there.

    """

    name: str
    pattern: re.Pattern[str]
    new: str | Callable[[re.Match[str]], str]
    unless: re.Pattern[str] | None = None
    completes: bool = False


def _rule(name: str, pattern: str, new: str | Callable[[re.Match[str]], str] = HOLE, unless: re.Pattern[str] | None = None, completes: bool = False) -> Rule:
    return Rule(name, re.compile(pattern, re.IGNORECASE), new, unless, completes)


# Whoever compares sizes ("smaller than", "from 3 cm to") needs the size: no size is taken out of such a sentence.
_SIZE_MATTERS = re.compile(NEGATION.pattern + r"|\b(?:than|previous\w*|prior|least|[<>])(?:\b|$)|[<>]", re.IGNORECASE)
_PAST_NEGATION = re.compile(r"\b(?:no|not|without|never)\b", re.IGNORECASE)


def _sizes(match: re.Match[str]) -> str:
    """The dimensions that are known, with the unit."""
    known = [part for part in re.split(r" ?[x×] ?", match.group("dims")) if MARK not in part]
    return " x ".join(known) + match.group("unit") if known else match.group()


def _placed(match: re.Match[str]) -> str:
    """A participle before the masked date or name stays where it is the predicate ("was placed by Dr. M")."""
    before = match.string[max(0, match.start() - 12) : match.start()]
    verb = re.match(r" ?(placed|performed|requested|ordered|interpreted|read|suggested|recommended|noted|described|reviewed|inserted|removed|obtained|acquired)\b", match.group(), re.IGNORECASE)
    if verb and re.search(r"\b(?:is|are|was|were|been)$", before):
        return f" {verb.group(1)}{HOLE}"
    return HOLE


def _carrier(match: re.Match[str]) -> str:
    tail = match.group(3)
    return f"{match.group(1)}{match.group(2)} signs {tail}" if tail in ("of", "for") else f"{match.group(1)}{match.group(2)} findings {tail}"


RULES: tuple[Rule, ...] = (
    _rule("parenthesis", rf" ?\([^()]{{0,300}}{MARK}[^()]{{0,300}}\)| ?\[[^\[\]]{{0,300}}{MARK}[^\[\]]{{0,300}}\]"),
    _rule("x_ray", rf"\b(x)-{MARK}(?:'?s)?(?![\w{MARK}-])", "radiograph", completes=True),
    _rule("lymph_nodes", rf"\b(a|single|one)( (?:[a-z-]{{2,20}} ){{0,4}}lymph) {MARK}(?![\w{MARK}])", r"\1\2 node", completes=True),
    _rule("lymph_nodes", rf"\b(lymph) {MARK} (?=(?:is|has|was|appears|remains)\b)", r"\1 node ", completes=True),
    _rule("lymph_nodes", rf"\b(lymph) {MARK}(?![\w{MARK}])", r"\1 nodes", completes=True),
    _rule("costophrenic_angle", rf"\b((?:bilateral|both|the lateral|posterior and lateral) (?:[a-z]{{3,15}} )?costophrenic) {MARK}(?= (?!blunting)|[.,;]|$)", r"\1 angles", completes=True),
    _rule("costophrenic_angle", rf"\b(costophrenic) {MARK} (?=are\b|were\b)", r"\1 angles ", completes=True),
    _rule("costophrenic_angle", rf"\b(costophrenic) {MARK}(?![\w{MARK}])", r"\1 angle", completes=True),
    _rule("normal_limits", rf"\b(within normal) {MARK}(?![\w{MARK}])", r"\1 limits", completes=True),
    # Ages.
    _rule("age", rf"{_YO}[ -]?(?=(?:[a-z-]{{3,16}} ){{0,3}}(?:{_PERSON})\b)"),
    _rule("age", rf"{MARK}[ -](?=(?:{_PERSON})\b)(?!{MARK}[ -](?:patient|pt|person|[FM])\b)"),
    _rule("age", rf",? ?\b(?:aged?|at (?:the )?age(?: of)?|age:?) (?:of )?(?:approximately )?{MARK}(?:[ -]?(?:years?|yrs?)(?: old)?)?{_STOP}"),
    _rule("age", rf",? who is (?:now )?{_YO}"),
    _rule("age", rf"(?<=patient), {_YO},?|(?<=woman), {_YO},?|(?<=man), {_YO},?"),
    _rule("age_patient", rf"{_YO}[ -]?{MARK}(?= (?:with|who|status|presenting|s/p|presents|here|for|after|post)\b|[.,;]| ?$)", f"{HOLE}patient", completes=True),
    _rule("age_patient", rf"{_YO}(?= (?:with|who|status|presenting|s/p|presents|admitted|after|post|here|for|in|from|undergoing|post-?op)\b|[.,;]| ?$)", f"{HOLE}patient", completes=True),
    _rule("age", rf"^{_YO} (?=[a-z])"),
    Rule("age_sex", re.compile(rf"{MARK} ?(?=[FM]\b(?: (?:with|w/|who|s/p|p/w|presenting|status|c/o|h/o|here|a/w|post|after|and)|[,.;]| ?$))"), HOLE),
    # People.
    _rule("possessive", rf"\b(?:mr|mrs|ms|miss|dr|drs|doctor|patient|pt)\.? {_M}['’]s (?=[a-z])", "the ", completes=True),
    _rule("possessive", rf"(?<![\w-]){_M}['’]s (?=[a-z])"),
    _rule("patient_name", rf"\b(?:mr|mrs|ms|miss)\.? {_M}(?= [a-z])", "the patient", completes=True),
    _rule("patient_name", rf"\b((?:the )?(?:patient|pt))(?:,? (?:named?|mr\.?|mrs\.?|ms\.?))? {_M},?(?= (?:is|was|has|had|with|who|presents|presented|underwent)\b)", r"\1"),
    _rule("doctor", rf",? (?:as )?(?:(?:placed|performed|requested|ordered|interpreted|read|suggested|recommended|noted|described|reviewed) )?(?:by|per) (?:(?:the )?(?:referring |ordering |attending )?(?:physician|provider|radiologist|surgeon|service|team),? )?(?:drs?\.?|doctor|nurse|np|pa|md|physician|team|resident) ?{_M}(?:,? (?:and|or) (?:drs?\.?|doctor)? ?{_M})?(?:,? (?:md|m\.d|np|pa|rn))?(?: (?:at|on) {_WHEN})?{_STOP}", _placed),
    _rule("doctor", rf",? by {_M}(?: (?:at|on) {_WHEN})?{_DOT}"),
    # Sizes.
    _rule("dimension", rf"\b(?<![.\d])(?P<dims>{_SIZE}(?: ?[x×] ?{_SIZE}){{1,2}})(?P<unit>[ -]?{_UNIT}\b)", _sizes),
    _rule("dimension_range", rf",? from {_SIZE}(?: ?{_UNIT})?(?= to {_N} ?{_UNIT}\b)", lambda m: HOLE if MARK in m.group() else m.group()),
    _rule("quantity", rf"{_ABOUT}?{MARK}(?:[ -]to[ -]{_SIZE})? ?{_UNIT}(?= (?:above|below|superior to|inferior to|proximal to|distal to|beyond|past)\b)"),
    _rule("measuring", rf",? ?(?:which |that |and |now |currently |each )?(?:measur(?:es|ed|ing)|spanning|sized?) (?:now )?{_ABOUT}{{0,2}}{MARK}(?: ?[x×] ?{MARK}){{0,2}}(?:[ -]?{_UNIT})?(?: (?:in|at) (?:(?:its |the )?(?:greatest |maximum |maximal |largest |long |short |transverse |craniocaudal )?(?:axis )?(?:dimensions?|diameter|size|width|axis)|width|size|length|thickness))?{_STOP}"),
    _rule("size", rf"{_ABOUT}{{0,2}}{MARK}(?: ?[x×-] ?{MARK}){{0,2}}[ -]?{_UNIT}[ -](?=[a-z-]{{3,}})", HOLE, _SIZE_MATTERS),
    _rule("size_of", rf",? (?:of|at) {_ABOUT}?{MARK}(?: ?[x×] ?{MARK}){{0,2}} ?{_UNIT}(?: in (?:greatest |maximum |maximal )?(?:dimension|diameter|size))?{_STOP}", HOLE, _SIZE_MATTERS),
    # Comparisons and dates.
    _rule("comparison_lead", rf"^(?:{_COMPARED}|comparison (?:with|to|is made (?:with|to))|since|as of|from|following|versus|vs\.?) {_PHRASE}(?: and {_PHRASE})?(?:, | - | (?=(?:there|the|no|new|this|these|an?|left|right|bilateral|small|large|increased|decreased|interval|heart|lungs?|cardiac|mild|moderate|stable|unchanged|patient|previously|persistent|again|overall|again,)\b))"),
    _rule("date_lead", rf"^(?:on|at|in) {_WHEN},? (?=there (?:is|are)\b)|^(?:on|at|in|as of|dated) {_WHEN}, ", HOLE, _PAST_NEGATION),
    _rule("comparison_aside", rf", ?{_COMPARED} {_PHRASE},(?= (?:is|are|has|have|appears?|remains?|shows?|measures?|now|the|there|but|and|with|which)\b)"),
    _rule("comparison", rf",? ?(?:{_COMPARED}|since) (?:at )?{_PHRASE}(?: and {_PHRASE})?(?!, (?:when|at which|where|which))(?P<end>,?)(?= |[.;!?)]|$)", lambda m: HOLE + m.group("end")),
    _rule("seen_before", rf",? (?:as |also |again |previously |which was |that was |first |last |better |initially ){{0,2}}(?:seen|described|noted|identified|demonstrated|visualized|present|reported|documented|visible|evaluated|characterized|shown|mentioned) (?:also )?(?:on|in|at|from|by|since) {_PHRASE}(?=,| ?[.;!?)]| ?$| (?:is|are|has|have|appears?|remains?|and|but|with)\b)", HOLE, _PAST_NEGATION),
    _rule("change_from", rf"\b({_CHANGE})( in (?:size|appearance|extent|position|severity|number|degree))? (?:from|as of|over|on|at|to|between|versus|vs\.?) (?:{_PHRASE})(?: and {_PHRASE})?{_STOP}", rf"\1\2{HOLE}"),
    _rule("study_date", rf"\b({_STUDY}|line|tube|surgery|procedure|biopsy|placement|catheter|removal|resection) (?:dated|from|on|performed on|of|at|obtained on|performed|obtained|taken on|dated on|done on|from the date of) {_WHEN}", rf"\1{HOLE}", _PAST_NEGATION),
    _rule("date_range", rf",? (?:between|from) {_WHEN} (?:and|to|through|until) {_WHEN}{_STOP}"),
    _rule("date_tail", rf",? (?:dated|performed on|obtained on|acquired on|performed at|obtained at|placed on|inserted on|removed on|taken at|taken on|time stamped|timed at) {_WHEN}{_STOP}", _placed),
    _rule("clock_tail", rf",? at {_TIME_MARK} (?:on|of) {_WHEN}{_STOP}|,? (?:at|on) {_WHEN}{_DOT}", HOLE, re.compile(_PAST_NEGATION.pattern + r"|\b(?:is|are|was|were|tip|ends?|terminat\w+|located|project\w*|position\w*|level|carina|seen|present)\b", re.IGNORECASE)),
    # A negation whose carrier is masked keeps its negation.
    _rule("negation_carrier", rf"\b(no|without|any|negative for)((?: (?:{_MODIFIED})){{0,3}}) {_M} (of|for|to suggest|suggesting|suggestive of)(?= [a-z])", _carrier, completes=True),
)


def communication_tail(sentence: str) -> str | None:
    """What a sentence says before (or inside) its part on who was told; None if it says nothing else."""
    of = _COMM_OF.match(sentence)
    if of:
        what = of.group("what")
        return what[0].upper() + what[1:] + "."
    tail = _COMM_TAIL.search(sentence)
    if not tail or tail.start() < 8 or MARK in sentence[: tail.start()] or COMMUNICATION.search(sentence[: tail.start()]):
        return None
    return sentence[: tail.start()].rstrip(" ,;-(") + "."


_ARTICLE = re.compile(rf"\b([Aa])n? {HOLE} ?(?=(\w+))")


def tidy(sentence: str) -> str:
    """Mends articles, blanks and commas around holes."""
    sentence = _ARTICLE.sub(lambda m: m.group(1) + ("n " if takes_an(m.group(2)) else " "), sentence).replace(HOLE, " ")
    sentence = re.sub(r"\( ?[,;]? ?\)|\[ ?\]", "", sentence)
    sentence = re.sub(r"\s{2,}", " ", sentence)
    sentence = re.sub(r" (?=[,;:.!?)](?!\d))", "", sentence)
    sentence = re.sub(r",(?= ?[,.;:!?])", "", sentence)
    return sentence.strip(" ,;")


def takes_an(word: str) -> bool:
    """Whether "an" goes before the word."""
    if len(word) == 1 or word.isupper():
        return word[0].upper() in "AEFHILMNORSX8"
    return bool(re.match(r"[aeiou](?!ni[a-z]|ne\b|se)|8|1[18](?!\d)", word, re.IGNORECASE))
