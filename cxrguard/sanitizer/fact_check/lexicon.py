"""The words that the fact check knows, as data; every word that is not here is a content word and thus a fact."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

# What a token is. Those before CONTENT are no facts of their own.
FREE, WEAK, UNIT, MARKER, SEPARATOR, HARD = "free", "weak", "unit", "marker", "separator", "hard"
CONTENT, SIDE, CHANGE, QUALIFIER, NUMBER = "content", "side", "change", "qualifier", "number"
NEGATION, HEDGE, COMPARE, TIMES = "negation", "hedge", "compare", "times"

Entry = tuple[str, str]

_WORDS: dict[str, str] = {
    # The only words a sanitizer may add: articles, agreement, "and", and what carries a negation whose carrier was masked.
    FREE: "a an the is are was were be been there this these that sign signs patient patients patient's patients' s "
    "evidence finding findings",
    # No facts by themselves, but none may be gained: prepositions and the carriers of boilerplate.
    WEAK: "of in at on for to from by with within into over along near below above between as it its has have had being do does "
    "did than then indication now before after seen noted identified present demonstrated appreciated evident visualized visible detected "
    "shown observed found study studies exam examination examinations radiograph radiographs film films image images imaging view views "
    "limit limits which who whom we i again also otherwise remainder interval time today prior previous previously "
    "sided size appearance show shows demonstrate demonstrates most more greater less very quite well here old year "
    "out particularly specifically currently grossly overall area region aspect portion either",
    UNIT: "mm cm m ml cc millimeter millimeters centimeter centimeters degree degrees french fr percent year years month months week weeks "
    "day days hour hours inch inches th st nd rd yo y",
    SEPARATOR: ", ( ) with and or versus vs",
    HARD: "; : but however although though except while whereas yet",
    SIDE: "left right leftward rightward both bilateral bilaterally bibasilar bibasal biapical unilateral l r rt lt b/l",
    CHANGE: "new newly stable unchanged stability improved improving improvement improves worse worsened worsening worsens increased "
    "increasing increase increases decreased decreasing decrease decreases larger smaller enlarging resolving resolution resolved "
    "progressed progression progressing persistent persists persisting chronic changed developing development developed "
    "cleared clearing recurrent reaccumulated regressed redemonstrated",
    QUALIFIER: "acute focal large definite significant displaced obvious gross discrete suspicious active convincing confluent dense "
    "typical substantial appreciable measurable overt frank lobar sizable sizeable airspace",
    NUMBER: "two three four five six seven eight nine ten eleven twelve single several multiple few",
    NEGATION: "no not without w/o never neither nor denies deny denied absent absence lack lacks lacking non none negative excluded "
    "ruled nothing",
    HEDGE: "may might could possible possibly probable probably likely unlikely suspicious suspected suspicion suspect suggest suggests "
    "suggesting suggestive suggested concern concerns concerning question questionable questioned equivocal if whether "
    "compatible consistent favor favored favors appear appears seem seems presumably presumed perhaps consider considered "
    "considerations consideration cannot indeterminate would should can exclude evaluate eval assess potential potentially differential borderline ? "
    "rule r/o c/w presumptive conceivably doubt doubtful",
    COMPARE: "compare compared comparison comparing since",
    TIMES: "x ×",
}

# Rewriting boilerplate is no change of a fact.
_SYNONYMS: dict[str, str] = {
    "unremarkable": "normal",
    "vs": "versus",
    "limits": "limit",
    "appears": "appear",
    "seems": "seem",
    "suggests": "suggest",
    "favors": "favor",
    "eval": "evaluate",
    "concerns": "concern",
    "w/o": "without",
    "c/w": "consistent",
    "b/l": "bilateral",
    "newly": "new",
    "unchanged": "stable",
    "stability": "stable",
    "suspected": "suspicious",
    "worsened": "worse",
    "worsening": "worse",
    "worsens": "worse",
    "improvement": "improved",
    "improving": "improved",
    "improves": "improved",
    "bilaterally": "bilateral",
    "both": "bilateral",
    "l": "left",
    "lt": "left",
    "r": "right",
    "rt": "right",
    "millimeter": "mm",
    "millimeters": "mm",
    "centimeter": "cm",
    "centimeters": "cm",
    "fr": "french",
    "percent": "%",
    "degrees": "degree",
    "years": "year",
    "yo": "year",
    "y": "year",
}


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


VERBS = _set("is are was were has have had appear appears remain remains demonstrate demonstrates show shows measures may can could")
# These speak of their own predicate only.
LOCAL_HEDGES = _set("appear appears seem seems masked")
COPULAS = _set("is are was were be been being has have had does do did may might could can cannot")
SEEN = _set("seen noted identified present demonstrated appreciated evident visualized visible detected shown observed found")
# Words before which a masked word may well have been a "no", a "not" or a "possibly".
AFTER_MASKED_CUE = _set(
    "evidence representing represent represents reflecting reflect reflects indicating suggesting longer due related secondary "
    "indicate indicates suggest suggests correspond corresponds corresponding relate relates favored be"
)
# After these prepositions a cue speaks of what follows ("suspicious for"), before others of what stands before ("is not seen in").
GOVERNING = _set("for with of to that")
PLACES = _set("in on at of along within overlying over near")
# These open an interpretation or a relative clause: sides, numbers and changes before and after are apart.
OPENERS = _set(
    "which without representing represent represents reflecting reflect reflects suggesting suggestive consistent compatible due"
)
SIZE_UNITS = _set("mm cm ml cc french %")
# What a masked collocation allows, one of the words or all of them in this order.
COMPLETIONS = {"x": "ray radiograph", "lymph": "node", "costophrenic": "angle", "soft": "tissue", "vena": "cava", "normal": "limit"}
# The same for two markers in a row.
COMPLETIONS_OF_TWO = {"superior": "vena cava"}


def _entries() -> Iterator[tuple[str, Entry]]:
    for kind, words in _WORDS.items():
        for word in words.split():
            yield word, (kind, _SYNONYMS.get(word, word))


# A word in two lists has the kind of the later one.
LEXICON: dict[str, Entry] = dict(_entries())


@lru_cache(maxsize=1 << 16)
def lookup(word: str) -> Entry:
    """Kind and canonical form of a lower-case word; one that is not in the lexicon is content, folded to its singular."""
    if word in LEXICON:
        return LEXICON[word]
    if word[0] in "-–—":
        return SEPARATOR, ","
    if word.endswith("n't"):
        return (HEDGE, "cannot") if word == "can't" else (NEGATION, "not")
    if word[:-1].isalpha() and len(word) > 3:
        if word.endswith("ies"):
            word = word[:-3] + "y"
        elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
            word = word[:-1]
    kind = NUMBER if any(c.isdigit() for c in word) else CONTENT
    return kind, _SYNONYMS.get(word, word)
