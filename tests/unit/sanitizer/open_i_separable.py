"""Which facts of a sentence with a marker could be kept, found by code of its own: none of the repair's rules is used here.

A *fact* is a word of the fact reader (finding, side, change, qualifier, number) with its polarity, hedge, sides, changes and
qualifiers. It is *kept* if the output has it in the same order.

A fact of a marked sentence is *separable* when the sentence, cut at its commas, conjunctions and verbs, has it in a part without a
marker (or outside an adjunct such as "since XXXX" or an age "XXXX-year-old" that a reader would cross out), and what it needs
survives the crossing out: a subject its predicate, a predicate one of its subjects, a "with ..." its head, and every word of its
side, change and hedge. Not separable are alternatives to a marker ("XXXX or pneumonia", unless denied), what a marker may have
denied or hedged ("XXXX represent"), the first denied object after a bare "no XXXX,", and clauses that tell who was called.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from open_i_facts import FACTS, NUMBERED, WORD, located, words

from cxrguard.sanitizer.conventions import MARK
from cxrguard.sanitizer.fact_check import Fact
from cxrguard.sanitizer.fact_check.lexicon import lookup


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_COPULAS = _set("is are was were be been has have had may might could can cannot should would will do does did")
_VERBS = _COPULAS | _set(
    "appear appears remain remains show shows demonstrate demonstrates represent represents reflect reflects suggest suggests measure "
    "measures project projects overlie overlies extend extends lie lies reveal reveals include includes indicate indicates contain "
    "contains relate relates terminate terminates end ends persist persists seem seems limit limits obscure obscures exclude"
)
_HARD = _set("; : ( ) [ ] < > but however although though while whereas which who because")
_JOINERS = _set(", and or nor versus vs / with without")
_ALTERNATIVES = _set("or versus vs /")
_DEPENDENT = _set("with without")
_ADJUNCTS = _set("since from on at in by than to per during over for via within")
_GOVERNS = _set(
    "compared comparison relative secondary due similar adjacent associated consistent compatible related superimposed performed"
)
_KEEPS_WITH = _set("consistent compatible suspicious concerning")  # "consistent with": no "with" that starts a part
_DUMMY = _set("there it this these that here")
_STARTS_CLAUSE = _set("the there a an this these no it both")
_OPENERS = _set("representing reflecting indicating suggesting related secondary due consistent compatible")
_INTERPRETS = _set("represent represents reflect reflects relate relates indicate indicates suggest suggests")
_FOLLOWS = _set("seen noted of in on at for")  # and words on -ing, -ed: they hang on the head before them
_TOLD = _set(
    "technologist receipt message contacted discussed called telephoned phoned paged notified informed communicated relayed dictated "
    "conveyed acknowledged dr phone telephone"
)
_MODIFIER = re.compile(
    r"(?:\w+(?:al|ar|ic|ive|ous|ly|ed|able|ible|ate|ior|oid)|mild|small|large|round|minimal|focal|new|stable|pa|ap|low|age|upper|lower|left|right|"
    r"both|multiple|single|two|several|the|an?|-|x|short|normal|clear|prominent|patchy|streaky|hazy|old|moderate|severe)"
)
_AGE = re.compile(
    rf"{MARK}(?:\s*-?\s*(?:years?|yr|months?|days?|weeks?)\b(?:\s*-?\s*old\b)?|\s*-?\s*(?:y\.?o\b\.?|yof|yom))", re.IGNORECASE
)
_LONGEST_ADJUNCT = 6


def _marked(word: str) -> bool:
    return MARK in word


@dataclass
class Part:
    """Words of a clause between two joiners or verbs.

    Attributes:
        places: Of its words in the sentence.
        joiner: The word before it.
        free: Places that a crossing out of the marker leaves; all if there is no marker.
        masked: Whether the crossing out leaves nothing that stands by itself.
        crossed: Whether anything was crossed out.
        closed: Whether a marker opens an interpretation ("XXXX representing"), which takes all that follows with it.

    """

    places: list[int]
    joiner: str
    free: set[int] = field(default_factory=set)
    masked: bool = False
    closed: bool = False
    crossed: bool = False


def separable(sentence: str) -> list[tuple[Fact, bool]]:
    """The facts of a marked sentence, each with whether it is separable (see the module)."""
    sentence = NUMBERED.sub("", sentence)
    spared = _AGE.sub(lambda m: "~" * len(m.group()), sentence)  # An age can always be crossed out.
    tokens = words(sentence)
    aged = _aged(sentence, spared)
    free: set[int] = set()
    bare: set[int] = set()
    reader = _ClauseReader(tokens, aged)
    for clause in _clauses(tokens):
        kept, alternatives = reader.read(clause)
        free |= kept
        bare |= alternatives
    facts = located(sentence)
    supports = Counter(lookup(tokens[i])[1] for i in free if tokens[i][0].isalnum() and not _marked(tokens[i]))
    return [(fact, place in free and place not in aged and _supported(fact, supports, place in bare)) for fact, place in facts]


def _aged(sentence: str, spared: str) -> set[int]:
    return {i for i, m in enumerate(WORD.finditer(sentence)) if "~" in spared[m.start() : m.end()]}


def _supported(fact: Fact, supports: Counter[str], alternative: bool) -> bool:
    """Whether all that is said of a fact stands outside the marked parts."""
    hedges = {word for hedge in fact.hedge if hedge not in ("or", "?") for word in hedge.split()[:1]}
    if "masked" in hedges or (alternative and not fact.negated):
        return False
    needed = {*fact.sides, *fact.changes, *fact.qualifiers, *hedges} - {"stable", "cannot"}
    said = needed <= set(supports)
    stable = "stable" not in fact.changes or any(supports[word] for word in ("stable", "change", "changed"))
    return said and stable


def _clauses(tokens: Sequence[str]) -> Iterator[list[int]]:
    """Runs of places between hard ends, cut again where a comma or "and" starts a clause with a verb of its own."""
    runs: list[list[int]] = [[]]
    for i, word in enumerate(tokens):
        if word in _HARD:
            runs.append([])
        else:
            runs[-1].append(i)
    for run in filter(None, runs):
        yield from _independent(tokens, run)


def _independent(tokens: Sequence[str], run: list[int]) -> Iterator[list[int]]:
    verbs = [k for k, i in enumerate(run) if tokens[i] in _VERBS and not (k and tokens[run[k - 1]] in (*_VERBS, "to", "not"))]
    start = 0
    for one, other in pairwise(verbs):
        joints = [k for k in range(one + 1, other) if tokens[run[k]] in (",", "and")]
        if joints:
            at = next((k for k in joints if tokens[run[k + 1]] in _STARTS_CLAUSE), joints[0])
            yield run[start:at]
            start = at
    yield run[start:]


class _ClauseReader:
    """Reads the clauses of a sentence in order; whether the one before stands decides on those that hang on it."""

    def __init__(self, tokens: Sequence[str], aged: set[int]) -> None:
        self.tokens, self.aged = tokens, aged
        self.lives = self.subject_lives = True
        self.told_until = -1

    def read(self, clause: list[int]) -> tuple[set[int], set[int]]:
        """Places that may stay, and those of them that are alternatives to a marker."""
        tokens, before = self.tokens, self.tokens[clause[0] - 1] if clause[0] else ""
        hangs = before in ("which", "who", "because") and not self.lives
        told = any(tokens[i] in _TOLD for i in clause) or (clause[0] == self.told_until and before not in _HARD)
        if told:
            self.told_until = clause[-1] + 1
        if hangs or told or "if" in (tokens[i] for i in clause[:2]):
            self.lives = self.subject_lives = False
            return set(), set()
        if not any(_marked(tokens[i]) and i not in self.aged for i in clause):
            elided = tokens[clause[0]] in ("and", ",") and len(clause) > 1 and tokens[clause[1]] in _VERBS
            self.lives = self.subject_lives or not elided
            return (set(clause), set()) if self.lives else (set(), set())
        free, alternatives, self.lives = self._marked(clause)
        return free, alternatives

    def _marked(self, clause: list[int]) -> tuple[set[int], set[int], bool]:
        tokens = self.tokens
        verb = next((k for k, i in enumerate(clause) if tokens[i] in _VERBS), None)
        if verb is None:
            return _stay(tokens, _parts(tokens, clause, self.aged))
        subject, predicate = clause[:verb], clause[verb:]
        while predicate and tokens[predicate[0]] in _VERBS | {"not"}:
            predicate = predicate[1:]
        if subject and _marked(tokens[subject[-1]]) and tokens[clause[verb]] not in _COPULAS:
            # "XXXX represent": a hedge or denial may have been masked.
            commas = [k for k, i in enumerate(subject) if tokens[i] == ","]
            subject = subject[: commas[-1]] if commas else subject if tokens[clause[verb]] in _INTERPRETS else []
            if subject and _marked(tokens[subject[-1]]):
                subject = subject[:-1]  # A noun that is interpreted stands by itself.
            if subject and tokens[subject[-1]] in ("most", "more"):
                subject = subject[:-1]
            return _stay(tokens, _parts(tokens, subject, self.aged))
        subject_free, subject_or, self.subject_lives = _stay(tokens, _parts(tokens, subject, self.aged))
        dummy = bool(subject) and tokens[subject[-1]] in _DUMMY
        self.subject_lives = self.subject_lives or not subject or dummy
        predicate_free, predicate_or, lives = _stay(
            tokens, _parts(tokens, predicate, self.aged), predicate="there" not in map(tokens.__getitem__, subject[-1:])
        )
        if not (self.subject_lives and lives):
            return set(), set(), False
        return subject_free | predicate_free | {i for i in clause if tokens[i] in _VERBS}, subject_or | predicate_or, True


def _content(tokens: Sequence[str], places: Sequence[int]) -> bool:
    return any(tokens[i][0].isalnum() and not _marked(tokens[i]) and lookup(tokens[i])[0] in (*FACTS, "weak") for i in places)


def _parts(tokens: Sequence[str], places: list[int], aged: set[int]) -> list[Part]:
    parts = [Part([], "")]
    for i in places:
        if tokens[i] in _JOINERS and not (tokens[i] == "with" and i and tokens[i - 1] in _KEEPS_WITH):
            if parts[-1].places or tokens[i] in _ALTERNATIVES | _DEPENDENT:
                parts.append(Part([], tokens[i]))
            elif not parts[-1].joiner or tokens[i] != ",":
                parts[-1].joiner = tokens[i]
        else:
            parts[-1].places.append(i)
    for part in parts:
        _cross_out(tokens, part, aged)
    return [part for part in parts if part.places]


def _cross_out(tokens: Sequence[str], part: Part, aged: set[int]) -> None:
    """Finds what is left of a part when its marker goes with the adjunct that it ends or stands in."""
    part.free = {i for i in part.places if i not in aged}
    for i in part.places:
        if not _marked(tokens[i]) or i not in part.free:
            continue
        part.crossed = True
        if i < part.places[-1] and tokens[i + 1] in _OPENERS:
            part.free -= set(range(i - (i > part.places[0] and tokens[i - 1] in ("most", "more")), part.places[-1] + 1))
            part.closed = True
            break
        at = next((j for j in range(i - 1, max(part.places[0], i - _LONGEST_ADJUNCT) - 1, -1) if lookup(tokens[j])[1] in _ADJUNCTS), None)
        if at is None:
            part.masked, part.free = True, set()
            return
        at = next((j for j in range(part.places[0], at) if lookup(tokens[j])[0] == "compare"), at)
        while at > part.places[0] and tokens[at - 1] in _GOVERNS | {"as", "in"}:
            at -= 1
        end = i + 1
        while end <= part.places[-1] and (_marked(tokens[end]) or lookup(tokens[end])[0] not in ("weak", "free")):
            end += 1
        part.free -= set(range(at, end))
    part.masked = part.crossed and not _content(tokens, sorted(part.free))


def _stay(tokens: Sequence[str], parts: list[Part], predicate: bool = False) -> tuple[set[int], set[int], bool]:
    """Places that may stay, those of them that are alternatives to a marker, and whether any part stands by itself."""
    free: set[int] = set()
    alternatives: set[int] = set()
    head = lives = False
    if predicate and parts and parts[0].masked and _marked(tokens[parts[0].places[0]]):
        return free, alternatives, False  # "is XXXX in the lung and hilum": the verb is lost, too.
    for k, part in enumerate(parts):
        near = [(part.joiner, parts[k - 1])] if k else []
        near += [(parts[k + 1].joiner, parts[k + 1])] if k + 1 < len(parts) else []
        modifies = not (predicate and k == 0) and any(other.masked for _, other in near) and _only_modifies(tokens, part)
        hangs = part.joiner in _DEPENDENT or (k and _hangs(tokens[part.places[0]]))
        if not hangs and not (k and not head and part.joiner in ("and", "or", "/") and _takes_along(tokens, parts[k - 1])):
            head = not part.masked and not modifies
        if part.masked or modifies or not head or _after_bare_denial(tokens, parts, k):
            continue
        free |= part.free
        lives = lives or not hangs
        if any(joiner in _ALTERNATIVES and other.crossed for joiner, other in near):
            alternatives |= part.free
        if part.closed:
            break
    return free, alternatives, lives


def _takes_along(tokens: Sequence[str], part: Part) -> bool:
    """Whether what is joined to a part by "and" may belong to what hangs on its marker: "XXXX to the cheek and nose"."""
    marks = [i for i in part.places if _marked(tokens[i])]
    after = [i for i in part.places if marks and i > marks[-1]]
    governed = any(tokens[i] in _ADJUNCTS | _OPENERS | {"of"} for i in after)
    inside = bool(after) and bool(marks) and _content(tokens, [i for i in part.places if i < marks[-1]])
    return part.joiner in _DEPENDENT or governed or inside


def _hangs(word: str) -> bool:
    return word in _FOLLOWS or (len(word) > 5 and word.endswith(("ing", "ed")) and lookup(word)[0] != "change")


def _only_modifies(tokens: Sequence[str], part: Part) -> bool:
    return all(_MODIFIER.fullmatch(tokens[i]) for i in part.free)


def _after_bare_denial(tokens: Sequence[str], parts: list[Part], k: int) -> bool:
    """ "After "No XXXX," on the left of an effusion it cannot be told whether that is denied, unless an "or" shows that a list goes on."""
    if not k or parts[k].joiner != "," or any(part.joiner in ("or", "nor") for part in parts):
        return False
    first = [tokens[i] for i in parts[0].places]
    return _marked(first[-1]) and not {"no", "without"}.isdisjoint(first)
