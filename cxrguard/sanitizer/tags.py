"""A sentence as tokens with one-letter word classes, so that structural rules are short patterns over short strings.

No statistical model: closed classes by list, adjectives and participles by list and suffix, everything else is a noun. Being
wrong costs a sentence (it is dropped), not a fact: what a rule makes is checked for grammar and for facts afterwards.

====  =======================================  ====  ==============================================
M     a marker                                 Q     a word with a marker inside
D     determiner                               A     adjective
W     noun, or any other word                  #     number
P     preposition                              o     "of"
C     and, or                                  K     but, although, ...: clauses that limit each other
B     be, have, auxiliary                      V     another finite verb
G     -ing form                                T     participle
H     word of doubt                            N     negation
E     "there", "this", "it" as a subject       R     relative pronoun
U     unit                                     X     "x" of a measurement
====  =======================================  ====  ==============================================

Punctuation stands for itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from cxrguard.sanitizer.conventions import MARK

_INNER = rf"[\w%{MARK}'’./&-]|:(?=[\d{MARK}])"
_TOKEN = re.compile(rf"[\w%{MARK}](?:(?:{_INNER})*[\w%{MARK}])?|\S")
_ONLY_MARK = re.compile(rf"[{MARK}'’./&:-]+(?:s)?")

_CLOSED = {
    "D": "the a an these those his her their its each any some all both either another such",
    "P": "in on at by for from with to into onto over under through throughout along near between during after before via per than as "
    "up down off out post since within above below behind beneath beyond toward towards across around upon against until about amid among s/p status",
    "o": "of",
    "C": "and or nor and/or &",
    "K": "but although though however except while whereas unless if because despite otherwise",
    "B": "is are was were be been being has have had do does did may might could can cannot should would will shall must "
    "appear appears appeared remain remains remained seem seems",
    "V": "show shows showed demonstrate demonstrates reveal reveals suggest suggests represent represents reflect reflects indicate "
    "indicates measure measures terminate terminates end ends project projects overlie overlies lie lies involve involves contain "
    "contains extend extends favor favors raise raises relate relates correlate cause causes confirm confirms exclude obscure obscures "
    "projected recommend consider persist persists persisted limit limits limited exceeds exceeded reaches reached crosses crossed "
    "courses enters occupies requires resembles abuts abutted correspond corresponds differs underwent presents presented denies "
    "makes make argues precludes supports means allows reduces tracks coils lends spoke include includes arises becomes became came comes goes needs",
    "H": "possible possibly probable probably likely unlikely perhaps presumably presumed questionable suspicious suspected concerning "
    "suggestive consistent compatible worrisome versus vs secondary due question suspicion concern",
    "N": "no not without never neither none n't",
    "E": "there this it that they she he",
    "R": "which who whose where when",
    "U": "mm cm ml m kg mg cc french fr degrees degree",
    "X": "x ×",
}
_ADJECTIVES = (
    "left right bilateral new old small large big tiny mild moderate severe acute chronic stable clear normal intact unremarkable "
    "unchanged upper lower mid middle minimal low high clean subtle faint dense vague round linear hazy patchy streaky bony osseous "
    "soft prior previous recent outside first second third more less thin thick wide early late slight coarse hypo great greater lesser "
    "worse better same similar further other few multiple several numerous many scattered diffuse discrete definite distinct gross "
    "overt frank free full adequate appropriate absent present evident mediastinal portable ovoid pulmonary tortuous grossly mildly top "
    "persistent recurrent transient patent prominent apparent dependent significant dominant malignant redundant "
    "feeding existing remaining surrounding underlying overlying ascending descending improving worsening increasing decreasing resolving "
    "evolving developing cavitating branching indwelling unilateral somewhat equivocal"
)
_NOUNS = (
    "interval hospital hila hilum material signal scar scars collar bar catheter catheters pleura artery arteries series evidence bed red "
    "thing reading finding findings thickening scarring stenting wiring marking markings opening tubing swelling narrowing flattening "
    "removal withdrawal trial thyroid sigmoid steroids clinic anomaly family blunting crowding cuffing layering lead breathing meeting coughing wheezing vomiting bleeding"
)
_WORDS = {word: tag for tag, words in _CLOSED.items() for word in words.split()}
_WORDS |= dict.fromkeys(_ADJECTIVES.split(), "A") | dict.fromkeys(_NOUNS.split(), "W")
_WORDS |= dict.fromkeys(["seen", "shown", "known", "given", "taken", "drawn", "done", "made", "worn", "broken"], "T")
# "Dual-lead", "28-year".
_COMPOUND = re.compile(r"(?:dual|single|double|triple|two|three|multi|low|high|large|small|air|soft|\d{1,3})-[a-z]{3,12}")
# Over tags: a short subject with its verb, and where a clause begins that has both or denies.
SUBJECT_AND_VERB = r"[DAWENM#RTQGo]{1,10}?[BV]"
CLAUSE = rf";|,?C(?={SUBJECT_AND_VERB})|,?C(?=N)|,(?=N)"
_ADJECTIVE = re.compile(r"(?!.*megaly$).{2,}(?:al|ic|ous|ary|ar|ive|oid|able|ible|ful|less|ior|ile|ly|ular|sized|shaped)$")


@dataclass(frozen=True)
class Tagged:
    """Tokens of a sentence.

    Attributes:
        text: The sentence.
        spans: Start and end of each token.
        tags: One letter a token.

    """

    text: str
    spans: tuple[tuple[int, int], ...]
    tags: str

    def word(self, i: int) -> str:
        """Token ``i`` in lower case; empty outside the sentence."""
        return self.text[slice(*self.spans[i])].lower() if 0 <= i < len(self.spans) else ""

    def slice(self, start: int, end: int) -> str:
        """The text from token ``start`` to before token ``end``, without blanks around."""
        return self.text[self.spans[start][0] : self.spans[end - 1][1]] if start < end else ""


@lru_cache(maxsize=4096)
def tagged(text: str) -> Tagged:
    """Tokens and word classes of a sentence."""
    spans = tuple(m.span() for m in _TOKEN.finditer(text))
    return Tagged(text, spans, "".join(tag_of(text[a:b]) for a, b in spans))


def is_known(word: str) -> bool:
    """Whether this is a word of a closed class or a listed one, and not half of another."""
    return word.lower() in _WORDS


@lru_cache(maxsize=65536)
def tag_of(token: str) -> str:
    """The one-letter class of a token; see the module."""
    if MARK in token:
        return "M" if _ONLY_MARK.fullmatch(token) else "Q"
    word = token.lower()
    if word in _WORDS:
        return _WORDS[word]
    if not (word[0].isalnum() or word[0] == "%"):
        return token if len(token) == 1 else "W"
    if word.endswith(("'s", "’s")):
        return "D"
    if _COMPOUND.fullmatch(word):
        return "A"
    if word[0].isdigit() or (word[0] == "x" and word[1:].isdigit()):
        return "#"
    if word.endswith("ing") and len(word) > 5:
        return "G"
    if word.endswith("ed") and len(word) > 4:
        return "T"
    return "A" if _ADJECTIVE.match(word) else "W"
