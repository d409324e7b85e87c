"""Phrase rules: whole phrases around a marker whose removal leaves the rest of the sentence true.

Each works on a sentence with single blanks in which every marker is :data:`MARK`. A rule writes :data:`HOLE` where it took
something out, so that the tidying knows where to mend. All repetition is bounded: linear time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from cxrguard.sanitizer.conventions import MARK
from cxrguard.sanitizer.rewordings import bracketed, carrier, enumerated, marked_only, one_marker, placed, seen, sizes
from cxrguard.sanitizer.tidying import HOLE
from cxrguard.sanitizer.vocabulary import (
    ABOUT,
    AGE,
    CHANGE,
    COMPARED,
    DONE,
    DOT,
    EPONYM,
    MARKS,
    MODIFIED,
    NUM,
    OPERATION,
    PASSED,
    PERIOD,
    PERSON,
    PHRASE,
    QUANTITY,
    SEX,
    SIZE,
    STOP,
    STOPS,
    STUDY,
    TIME_MARK,
    UNIT,
    WHEN,
    YO,
)

NEGATION = re.compile(r"\b(?:no|not|without|neither|nor|never|den(?:y|ies)|negative|absen\w+|free|n't)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Rule:
    """A substitution.

    Attributes:
        name: Goes into the edit record.
        pattern: What is replaced.
        new: The replacement.
        unless: The rule does not apply where this is found in what stands before it in its clause, or in a clause's end like "is not seen".
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


_BREAK = re.compile(r"[;:]| but | // |\. ")
_DENIED_AFTER = re.compile(r"[^,;.]{0,80}?\b(?:not|than|absent|excluded|unlikely|resolved)\b", re.IGNORECASE)


def substitute(rule: Rule, sentence: str) -> str:
    """The sentence after one rule."""
    unless = rule.unless
    if unless is None:
        return rule.pattern.sub(rule.new, sentence)

    def one(match: re.Match[str]) -> str:
        before = _BREAK.split(sentence[: match.start()])[-1]
        if unless.search(before) or _DENIED_AFTER.match(sentence, match.end()):
            return match.group()
        return match.expand(rule.new) if isinstance(rule.new, str) else rule.new(match)

    return rule.pattern.sub(one, sentence)


_BRACKETS = rf" ?\([^()]{{0,300}}{MARK}[^()]{{0,300}}\)| ?\[[^\[\]]{{0,300}}{MARK}[^\[\]]{{0,300}}\]"
# Behind the first word of a collocation: not glued to more, and no verb that the marker goes with ("lymph M represent").
_NO_MORE = rf"(?![\w{MARK}]| (?:represent|reflect|suggest|indicate|be)\b)"

RULES: tuple[Rule, ...] = (
    _rule("enumeration", r"\((?:a|1)\) [^()]{0,200}(?:\([b-h2-9]\) [^()]{0,200}?){1,7}(?=[.;]|$)", enumerated),
    _rule("parenthesis", _BRACKETS, bracketed),
    _rule("parenthesis", _BRACKETS),  # The outer ones of two.
    _rule("x_ray", rf"\b(x)-{MARK}(?:'?s)?(?![\w{MARK}-])", "radiograph", completes=True),
    _rule("lymph_nodes", rf"\b(a|single|one)( (?:[a-z-]{{2,20}} ){{0,4}}lymph) {MARK}{_NO_MORE}", r"\1\2 node", completes=True),
    _rule("lymph_nodes", rf"\b(lymph) {MARK} (?=(?:is|has|was|appears|remains)\b)", r"\1 node ", completes=True),
    _rule("lymph_nodes", rf"\b(lymph) {MARK}{_NO_MORE}", r"\1 nodes", completes=True),
    _rule("costophrenic_angle", rf"\b((?:bilateral|both|the lateral|posterior and lateral) (?:[a-z]{{3,15}} )?costophrenic) {MARK}(?= (?!blunting)|[.,;]|$)", r"\1 angles", completes=True),
    _rule("costophrenic_angle", rf"\b(costophrenic) {MARK} (?=are\b|were\b)", r"\1 angles ", completes=True),
    _rule("costophrenic_angle", rf"\b(costophrenic) {MARK}{_NO_MORE}", r"\1 angle", completes=True),
    _rule(
        "view",
        r"\b((?:pa|ap|frontal|lateral|portable|upright|supine|semi-?erect|erect|views?|two|single|of the)(?:,? (?:and |& |view |views )?(?:pa|ap|frontal|lateral|portable|upright|supine|erect|of|the))* chest) "
        rf"{MARK}(?=[.,;:]| ?$)",
        r"\1",
    ),
    _rule("normal_limits", rf"\b(within normal) {MARK}(?![\w{MARK}])", r"\1 limits", completes=True),
    # Ages.
    _rule("patient_name", rf"^{MARK} is (?=an? (?:{MARK}|\d{{1,3}})[ -]?(?:years?|yrs?|yo|y/o|y\.o))", "The patient is ", completes=True),
    _rule("code", rf"^[A-Z]?\d{{2,3}}\.\d{{1,2}},? (?={MARK}[ -])"),
    _rule("age", rf"\b({SEX}|patient|pt|infant|child) (?:of|aged) {MARK}(?: ?(?:years?|yrs?|months?)(?: of age| old)?)?(?= with| who|[.,;]| ?$)", r"\1"),
    _rule("age", rf"\b\d{{1,3}}[ -]{MARK}[ -](?:of age|old)[ -]?(?=[a-z])"),
    _rule("age", rf"\b(patient|pt|woman|man|female|male|he|she) is (?:now )?(?:an? )?{YO}(?:[ -]?{MARK})? (?=(?:with|who|presenting|status|s/p)\b)", r"\1 "),
    _rule("duration", rf",? (?:over|for|during|past|last) (?:the )?(?:past |last )?{MARK} {PERIOD}(?= (?:with|and)\b)", HOLE, _PAST_NEGATION),
    _rule("age", rf"{YO}(?![ -]?old\b)[ -]?(?=(?:[a-z{MARK}-]{{1,24}} ){{1,3}}(?:{PERSON})\b)"),
    _rule("age_inside", rf"^(?:clinical )?(?:history|indication):? \d{{1,2}}{MARK}(?= (?:with|who|status|s/p|presenting)\b)", "Patient", completes=True),
    _rule("age_inside", rf"\b\d{{1,2}}{MARK}(?:[ -]?(?:years?|yrs?|yo|old))*[ -](?=(?:[a-z-]{{3,16}} ){{0,2}}(?:{PERSON})\b)"),
    _rule("age_inside", rf"\b\d{{1,2}}{MARK}(?= (?:with|who|s/p|presenting)\b)", f"{HOLE}patient", completes=True),
    # Times that passed.
    _rule("duration", rf",? ?\b(?:(?:for|since|about|x) ?)?(?:\d{{1,3}}|one|two|three|four|five|six|several|few|an?) {MARK} (?:ago|earlier|prior)\b|,? ?\bx ?\d{{1,3}} {MARK}(?=[,;.]| ?$| (?:and|with)\b)"),
    _rule("last", rf",? (?:since |for |over |in |on |during )?(?:the )?(?:last|this|past|next) {MARK}{STOP}", HOLE, _PAST_NEGATION),
    _rule("onset", rf"{MARK}[ -]onset (?:of )?(?=[a-z])"),
    _rule("history", rf"{MARK}[ -]?{PERIOD}(?:['’]s?)? (?:of )?(?=(?:history|hx|course|duration|follow-?up|interval)\b)"),
    _rule("duration", rf"(?<!\ban )(?<!\ba )(?:{PASSED}) (?:of|h/o) (?=[a-z])"),
    _rule("day_number", rf",? ?\b(?:pod|post-?op(?:erative)? day|hd|hospital day|day of life|dol|icu day)(?: ?#| number)? ?(?<=[ #]){MARK}(?: (?:from|after|following|of)(?= ))?"),
    _rule("patient_name", rf"\b(pt|patient) {MARK}(?= (?:s/p|status|w/|p/w|c/o|h/o|here)\b)", r"\1"),
    _rule("hospital", rf",? (?:at|from|to|in|by) (?:the )?(?:outside )?{MARK} (?:hospital|medical center|clinic|er|ed|emergency (?:room|department)|nursing home|nursing facility|cent(?:er|re)|rehab(?:ilitation)?|facility)\b(?! (?:{STUDY})\b)"),
    _rule("age", rf"{YO}[ -]?(?=(?:[a-z-]{{3,16}} ){{0,3}}(?:{PERSON})\b)"),
    _rule("age", rf"{MARK}[ -](?=(?:{PERSON})\b)(?!{MARK}[ -](?:patient|pt|person|[FM])\b)"),
    _rule("age", rf",? ?\b(?:aged?|at (?:the )?age(?: of)?|age:?) (?:of )?(?:approximately )?{MARK}(?:[ -]?(?:years?|yrs?)(?: old)?)?{STOP}"),
    _rule("age", rf",? who is (?:now )?{YO}"),
    _rule("age", rf"(?:(?<=patient)|(?<=man)|(?<=male)|(?<=lady)|(?<=girl)|(?<=boy)), {YO},?"),
    _rule("age_patient", rf"{YO}[ -]?{MARK}(?= (?:with|who|status|presenting|s/p|presents|here|for|after|post)\b|[.,;]| ?$)", f"{HOLE}patient", completes=True),
    _rule("age_patient", rf"{YO}(?= (?:with|who|status|presenting|s/p|presents|admitted|after|post|here|for|in|from|undergoing|post-?op)\b|[.,;]| ?$)", f"{HOLE}patient", completes=True),
    _rule("age", rf"(?:^|(?<=\ba )|(?<=\ban )|(?<=\bthis )|(?<=\bthe )){AGE}[ -]?(?=[a-z{MARK}])(?!with|who|for|in|from)|^{YO} (?=[a-z])"),
    Rule("age_sex", re.compile(rf"{MARK} ?(?=[FM]\b(?: (?:with|w/|who|s/p|p/w|presenting|status|c/o|h/o|here|a/w|post|after|and)|[,.;]| ?$))"), HOLE),
    _rule("in_place", rf" (?:is|are|remains?|lies) (?:again |still )?(?:in|at) {MARK},? (?=with\b)", f"{HOLE} "),
    _rule("at_least", rf"\bat {MARK} (?=(?:the|one|two|three|four|five|\d{{1,2}}) [a-z-]{{3,}})(?!\w+ (?:am|pm|hours?|hrs|days?)\b)"),
    _rule("note", rf"\bnote {MARK} of (?={MARK}?[a-z ])", "note of "),
    _rule("technique_lead", rf"^(?:considering|allowing for|given) (?:the )?(?:differences? in )?(?:technique|technical factors|inspiration|(?:patient )?position(?:ing)?|rotation),? {MARK},? (?=[a-z])"),
    _rule("quantity_noun", rf"(?:^|(?<=with ))(scattered|minimal|mild|patchy|streaky|linear|subtle) {MARK} of (?!the\b|an?\b)(?=[a-z])", r"\1 "),
    _rule("change_degree", rf"\b((?:size|number|appearance|extent|opacity|opacities|density|{CHANGE})) {MARK} (?=(?:compared|relative) (?:to|with)\b)", r"\1 "),
    _rule("status_post", rf"\b(patient|pt|he|she) is (?:status[ -]post|s/p) {MARK} (?=with\b)", r"\1 "),
    # People.
    _rule("possessive", rf"\b(?:mr|mrs|ms|miss|dr|drs|doctor|patient|pt)\.? {MARKS}['’]s (?=[a-z])", "the ", completes=True),
    _rule("possessive", rf"(?<![\w-]){MARKS}['’]s (?=[a-z])(?!(?:{EPONYM})\b)"),
    _rule("patient_name", rf"\b(?:mr|mrs|ms|miss)\.? {MARKS}(?= [a-z])", "the patient", completes=True),
    _rule("patient_name", rf"\b((?:the )?(?:patient|pt))(?:,? (?:named?|mr\.?|mrs\.?|ms\.?))? {MARKS},?(?= (?:is|was|has|had|with|who|presents|presented|underwent)\b)", r"\1"),
    _rule(
        "doctor",
        rf",? (?:as )?(?:(?:placed|performed|requested|ordered|interpreted|read|suggested|recommended|noted|described|reviewed) )?(?:by|per) (?:(?:the )?(?:referring |ordering |attending )?(?:physician|provider|radiologist|surgeon|service|team),? )?(?:drs?\.?|doctor|nurse|np|pa|md|physician|team|resident) ?{MARKS}(?:,? (?:and|or) (?:drs?\.?|doctor)? ?{MARKS})?(?:,? (?:md|m\.d|np|pa|rn))?(?: (?:at|on) {WHEN})?{STOP}",
        placed,
    ),
    _rule("doctor", rf",? by {MARKS}(?: (?:at|on) {WHEN})?{DOT}"),
    # Sizes.
    _rule("dose", rf"{MARK} ?(?:mg|mcg|gm?|units?) (?=[a-z])"),
    _rule("dose", rf"\b(\d[\d.,]{{0,6}} ?(?:mg|mcg|gm?|ml|units?)) {MARK}(?= [a-z]| ?[.,;)]| ?$)", r"\1"),
    _rule(
        "previous_size",
        rf",? ?\(?(?:previously|formerly|prior|earlier|was|were|compared (?:to|with)|as compared (?:to|with)|from|versus|vs\.?) (?:measur(?:ed|ing) )?{ABOUT}?{MARK}(?: ?[x×] ?{MARK}){{0,2}} ?{QUANTITY}(?: (?:on|in|at) {WHEN})?\)?(?=,? (?:and|but) (?:is|are|now|has|have|currently|measures)\b)(?:,? (?:and|but))?",
    ),
    _rule("previous_size", rf",? (?:previously|formerly|compared (?:to|with)|as compared (?:to|with)|versus|vs\.?|from|increased from|decreased from) (?:measur(?:ed|ing) )?{ABOUT}?{SIZE}(?: ?[x×] ?{SIZE}){{0,2}} ?{QUANTITY}(?: (?:on|in|at) {PHRASE})?{STOP}", marked_only),
    _rule("quantity_by", rf" by {ABOUT}?(?:{NUM} ?(?:-|–|to) ?)?{MARK}(?: ?(?:-|–|to) ?{SIZE})? ?{QUANTITY}(?=[,;.]| (?:and|with|to|for|in|from)\b| ?$)", HOLE, _SIZE_MATTERS),
    _rule("quantity_of", rf"{ABOUT}{{0,2}}(?:{NUM} ?(?:-|–|to) ?)?{MARK}(?: ?(?:-|–|to) ?{SIZE})? ?{QUANTITY} of (?=[a-z])", HOLE, _SIZE_MATTERS),
    _rule("quantity_with", rf",? (?:with|having) (?:an? )?(?:total |maximal |estimated )?(?:volume|diameter|thickness|length|height|width|size|depth) of {ABOUT}?{MARK}(?: ?(?:-|–|to) ?{SIZE})? ?{QUANTITY}", HOLE, _SIZE_MATTERS),
    _rule("percent", rf"(?<!\bof )(?<!\bis )(?<!\bat ){ABOUT}?{MARK}(?: ?(?:-|–|to) ?{SIZE})? ?(?:%|percent) (?=[a-z])(?!of\b)", HOLE, _SIZE_MATTERS),
    _rule("moved", rf"\b((?:(?:advanc|withdr|pull|retract|push|rais)[a-z]*|lower(?:ed|ing))\b[^,;{MARK}]{{0,60}}?)(?: by| about| approximately| an additional| at least| another){{0,2}} {MARK}(?: ?(?:-|–|to) ?{SIZE})? ?{QUANTITY}", r"\1"),
    _rule("gauge", rf"{MARK}[ -]?(?:fr|french|gauge)\b(?: ?x ?{NUM} ?cm)?[ -](?=[a-z-]{{3,}})"),
    _rule("dimension", rf"(?<![.\w])(?P<dims>{SIZE}(?: ?[x×] ?{SIZE}){{1,2}})(?P<unit>[ -]?{UNIT}\b)", sizes),
    _rule("dimension_range", rf",? from {SIZE}(?: ?{UNIT})?(?= to {NUM} ?{UNIT}\b)", marked_only),
    _rule("quantity", rf"{ABOUT}?{MARK}(?:[ -]to[ -]{SIZE})? ?{UNIT}(?= (?:above|below|superior to|inferior to|proximal to|distal to|beyond|past)\b)"),
    _rule(
        "measuring",
        rf",? ?(?:which |that |and |now |currently |each )?(?:measur(?:es|ed|ing)|spanning|sized?) (?:now )?{ABOUT}{{0,2}}{MARK}(?: ?[x×] ?{MARK}){{0,2}}(?:[ -]?{UNIT})?(?: (?:in|at) (?:(?:its |the )?(?:greatest |maximum |maximal |largest |long |short |transverse |craniocaudal )?(?:axis )?(?:dimensions?|diameter|size|width|axis)|width|size|length|thickness))?(?={STOPS}| (?:in|within|at|along|with|and|is|are|has|seen|adjacent)\b)",
    ),
    _rule("size", rf"(?<!\bof )(?<!\bat ){ABOUT}{{0,2}}{MARK}(?: ?[x×-] ?{MARK}){{0,2}}[ -]?{UNIT}[ -](?=[a-z-]{{3,}})(?!(?:from|above|below|with|and|than|into|over|but|within|long|wide|thick|apart|away)\b)", HOLE, _SIZE_MATTERS),
    _rule("size_of", rf",? (?:of|at) {ABOUT}?{MARK}(?: ?[x×] ?{MARK}){{0,2}} ?{UNIT}(?: in (?:greatest |maximum |maximal )?(?:dimension|diameter|size))?(?={STOPS}| (?:is|are|was|has|exceeds?|with|in|and|within|along|seen|noted|at)\b)", HOLE, _SIZE_MATTERS),
    _rule(
        "level",
        rf",? (?:at|near|(?:to|at) the level of|reach(?:es|ing)|of(?= [CTL]{MARK})) (?:the )?(?:level of )?(?:the )?(?:(?:approximately )?[CTL]?{MARK}(?:th|st|nd|rd)?(?:[-/][CTL]?(?:{MARK}|\d{{1,2}}))?|[CTL]\d{{1,2}}[-/][CTL]?{MARK})(?: (?:anterior |posterior |lateral )?(?:vertebral body|level|levels|ribs?|interspace|intercostal space|vertebra))(?=[ .,;)]|$)",
        HOLE,
        NEGATION,
    ),
    _rule("pattern", rf",? (?:in|with) an? (?:[a-z-]{{3,16}} )?{MARK}(?: (?:and|or) (?:[a-z-]+|{MARK}))? (?:distribution|pattern|configuration|fashion|manner|orientation|location|position)(?= ?[.,;)]| ?$| (?:in|within|of|and)\b)", HOLE, NEGATION),
    _rule("range_modifier", rf"\b(?:mild|moderate|small|minimal|severe|large|moderately|mildly)(?:-to-| to |-|/){MARK} (?=[a-z])|{MARK}(?:-to-| to |-|/)(?:mild|moderate|small|minimal|severe|large) (?=[a-z])", HOLE, NEGATION),
    # Comparisons and dates.
    _rule("dating_back", rf",? (?:dating|going|extending) back (?:to|as far as) (?:at least )?{PHRASE}(?=[ .,;)]|$)"),
    _rule(
        "comparison_lead",
        rf"^(?:{COMPARED}|comparison (?:with|to|is made (?:with|to))|since|as of|from|following|versus|vs\.?) {PHRASE}(?: and {PHRASE})?(?:, | - | (?=(?:there|the|no|new|this|these|an?|left|right|bilateral|small|large|increased|decreased|interval|heart|lungs?|cardiac|mild|moderate|stable|unchanged|patient|previously|persistent|again|overall|again,)\b))",
    ),
    _rule("date_lead", rf"^(?:on|at|in) {WHEN},? (?=there (?:is|are)\b)|^(?:on|at|in|as of|dated) {WHEN}, |^(?:on|as of) {WHEN},? (?=(?:the|a|an|this|there) [a-z]+ (?:[a-z]+ ){{0,3}}(?:was|were|had|is|are)\b)", HOLE, _PAST_NEGATION),
    _rule("when_clause", rf",? (?:and |or )?since {PHRASE}, (?:when|at which (?:time|point)) [^,;{MARK}]{{3,60}}(?=[,;.]|$),?"),
    _rule(
        "than",
        rf"\b(larger|smaller|greater|higher|lower|worse|better|wider|denser|more [a-z]+|less [a-z]+)(,?) than (?:(?:it |they )?(?:that |was |were |seen |noted |visible |present ){{0,3}}(?:on|in|at|of|from|during|by) )?(?:that (?:on|of|in|seen on) )?{PHRASE}(?:,? (?:and|or) (?:on |in )?{PHRASE})?{STOP}",
        rf"\1{HOLE}",
        _PAST_NEGATION,
    ),
    _rule("date_range", rf",? (?:over|during|in|for) (?:the )?(?:interval|period|time|interim)(?: (?:from|between))? {WHEN}(?: (?:to|and|through|until) {WHEN})?(?= and has\b|{STOPS})"),
    _rule("compare", rf"(?:^|[;,:.] ?| and )compare (?:with |to )?{PHRASE}{STOP}"),
    _rule("comparison_aside", rf", ?{COMPARED} {PHRASE},(?= (?:is|are|has|have|appears?|remains?|shows?|measures?|now|the|there|but|and|with|which)\b)"),
    _rule("comparison", rf"(?:,? (?:and|or)|, (?:present|known|seen|visible)|,)? ?(?<!\w)(?:{COMPARED}|since) (?:at )?{PHRASE}(?: and {PHRASE})?(?!, (?:when|at which|where|which))(?P<end>,?)(?= |[.;:!?)]|$)", lambda m: HOLE + m.group("end")),
    _rule(
        "seen_before",
        rf",? (?:- )?(?:as |also |again |previously |which was |that was |first |last |better |initially |more |readily |clearly |well |best |partially ){{0,4}}(?:seen|described|noted|identified|demonstrated|visualized|present|reported|documented|visible|evaluated|characterized|shown|mentioned) (?:also )?(?:on|in|at|from|by|since) {PHRASE}(?=,| ?[.;!?)]| ?$| (?:is|are|has|have|appears?|remains?|and|but|with)\b)",
        seen,
        _PAST_NEGATION,
    ),
    _rule("change_from", rf"\b({CHANGE})( in (?:size|appearance|extent|position|severity|number|degree))? (?:from|as of|over|on|at|to|between|versus|vs\.?) (?:{PHRASE})(?: (?:and|or) {PHRASE})?(?={STOPS}| and (?:may|could|is|are|remains?)\b)", rf"\1\2{HOLE}"),
    _rule("study_date", rf"\b({STUDY}|line|tube|surgery|procedure|biopsy|placement|catheter|removal|resection) (?:dated|from|on|performed on|of|at|obtained on|performed|obtained|taken on|dated on|done on|from the date of) {WHEN}(?= ?[.,;:!?)]| ?$| (?:and|with|at|is|are|was|were|there|shows?|demonstrat[a-z]+|the|has|for|in|to|which|without|or|when|no|by|again|from|as|also|now|but|if|an?)\b)", rf"\1{HOLE}", _PAST_NEGATION),
    _rule("date_range", rf",? (?:between|from) {WHEN} (?:and|to|through|until) {WHEN}{STOP}"),
    _rule("done", rf"\b((?:was|were|been|is|are) (?:{DONE})|(?:{DONE})) (?:on |in |at |from )?{WHEN}(?= ?[.,;!?)]| ?$| (?:and|with|but)\b)", rf"\1{HOLE}", _PAST_NEGATION),
    _rule("operation", rf"\b({OPERATION})(?:,? (?:in|on|from|of|at|back in|since|dated|performed (?:in|on)|done (?:in|on)) {WHEN}(?= ?[.,;!?)]| ?$| (?:and|with|for|now|here|presents?|who)\b)| {WHEN}(?={STOPS}| with\b))", rf"\1{HOLE}", _PAST_NEGATION),
    _rule("bare_date", rf"\b(chest|views?|radiographs?|films?|x-?rays?|exam|examination|study|comparison|abdomen|cxr|lateral)(?: \([^(){MARK}]{{2,30}}\))?(?:, |(?<=\)) |(?<=lateral) ){WHEN}(?:, {WHEN})?{STOP}", lambda m: re.split(rf",? (?:approximately |around |about )?(?:{MARK}|\d)", m.group())[0]),
    _rule("date_tail", rf",? (?:dated|performed on|obtained on|acquired on|performed at|obtained at|placed on|inserted on|removed on|taken at|taken on|time stamped|timed at) {WHEN}{STOP}", placed),
    _rule("date_tail", rf",? as of (?:the )?{WHEN}{STOP}"),
    _rule("clock_tail", rf",? at {TIME_MARK} (?:on|of) {WHEN}{STOP}|,? (?:at|on) {WHEN}{DOT}", HOLE, re.compile(_PAST_NEGATION.pattern + r"|\b(?:is|are|was|were|tip|ends?|terminat\w+|located|project\w*|position\w*|level|carina|seen|present)\b", re.IGNORECASE)),
    _rule("duration", rf",? (?:\(?(?:for|x|over|within|in|after|during|approximately|about) )?{PASSED}(?: ago| earlier| prior| later| before| previously| post-?op\w*)?{STOP}", HOLE, _PAST_NEGATION),
    _rule("duration", rf",? (?:approximately |about )?{PASSED} (?:ago|earlier|prior|later|previously)(?= (?:with|and|for|now|here)\b)", HOLE, _PAST_NEGATION),
    _rule("hedged", rf"(?<=[a-z]),? ?(?:\?|r/o|(?:likely|possibly|probably|possible|probable|perhaps|presumably|suspected|questionable)) ?{MARKS}(?: (?:vs\.?|versus|or|and/or) [a-z ]{{3,40}})?(?=,)"),
    _rule("slash", rf"\b([a-z]{{4,}})/{MARK}(?![\w{MARK}/-])", r"\1"),
    _rule("slash", rf"(?<![\w{MARK}/-]){MARK}/(?=[a-z]{{4,}}\b)"),
    _rule("neither", rf"\bneither {MARKS} nor (?=[a-z])|\bneither (?P<kept>[a-z -]{{3,40}}) nor {MARKS}(?= |[.,;]|$)", lambda m: f"no {m.group('kept') or ''}{HOLE}", completes=True),
    _rule("two_markers", rf"(?<!between )(?<!from )(?:\b(?P<first>[a-z]{{3,16}}) )?{MARK}(?:,? (?:and|or|and/or) {MARK})+(?= [a-z])", one_marker),
    # A negation whose carrier is masked keeps its negation.
    _rule("negation_carrier", rf"\b(no|without|any|negative for)((?: (?:{MODIFIED})){{0,3}}) {MARKS} (of|for|to suggest|suggesting|suggestive of)(?= [a-z])", carrier, completes=True),
)
