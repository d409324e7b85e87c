"""Structural repairs: the smallest phrase, list item, aside or clause around a marker that can go.

Works on word classes (:mod:`cxrguard.sanitizer.tags`). Each proposal is a sentence with fewer markers; whether it is
grammatical and says nothing new is decided by the caller, so these rules may be generous.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from cxrguard.sanitizer.conventions import MARK
from cxrguard.sanitizer.lists import without_masked_items
from cxrguard.sanitizer.phrases import cut_phrases, without_tokens
from cxrguard.sanitizer.tags import CLAUSE, SUBJECT_AND_VERB, Tagged, is_known, tagged
from cxrguard.sanitizer.vocabulary import (
    CARRIERS,
    COUNTED,
    DEFORMED,
    EXCEPTIONS,
    HEDGES,
    NOUN_MODIFIERS,
    PAST,
    PLACES_BY_NAME,
    POLARITY_RISK,
    PREDICATES,
    REGIONS,
    TIES,
)

Proposal = tuple[str, str]  # rule, sentence

# Alone these are denied as often as not.
_DENIED_MOSTLY = re.compile(rf"{MARK} (?:acute |focal |pleural |lobar |large )*(?:pneumothora(?:x|ces)|effusions?|consolidations?|infiltrates?)[.]?", re.IGNORECASE)
_INDEPENDENT = re.compile(rf"(?:[EN]|H?{SUBJECT_AND_VERB})")
# Where a clause begins that may go.
_CLAUSE = re.compile(rf"{CLAUSE}|,K|,(?=E?[DAWM#TQ]{{0,8}}B)")


def proposals(sentence: str) -> Iterator[Proposal]:
    """Ways to take the first marker out of a sentence, those that keep most first."""
    t = tagged(sentence)
    k = next((i for i, tag in enumerate(t.tags) if tag in "MQ"), -1)
    if k < 0:
        return
    yield from _modifier(t, k)
    yield from (("list_item", new) for new in without_masked_items(t, k))
    yield from _aside(t, k)
    yield from (("phrase", new) for new in cut_phrases(t, k))
    yield from _clause(t, k)
    yield from _lead(t, k)
    yield from _label(t, k)


def _modifier(t: Tagged, k: int) -> Iterator[Proposal]:
    before, after = t.tags[:k], t.tags[k + 1 :]
    if t.word(k + 1) in COUNTED or re.match(r"x\d", t.word(k + 1)) or (t.word(k - 1) in ("a", "an") and t.word(k + 1) in REGIONS and t.tags[k + 2 : k + 3] != "W"):
        return
    if t.tags[k] == "Q":
        # A part of a compound before its noun ("M-Ganz catheter"); a denial of some kind would come to deny all.
        if re.match(r"[AT]{0,3}W" if k else r"[AT]{0,3}W+[^.W]", after) and re.search(r"[a-z]", t.word(k)) and not _half_known(t.word(k)) and not re.search(r"N[^,;:K]*$", before):
            yield "modifier", without_tokens(t, k, k + 1)
        return
    if t.tags[k] != "M" or not re.match(r"(?:#U|[AT#H]){0,5}W" if before.endswith("N") else r"(?:#U|[AT#]){0,5}W", after) or _hides_more(t, k):
        return
    if t.word(k + 1) in PLACES_BY_NAME:
        if t.tags[k + 2 : k + 3] == "W":
            yield "modifier", without_tokens(t, k, k + 2)
        return
    coordinated = re.search(r"[DP]A,$", before) is not None and after[:1] == "W"  # "in stable, M position"
    yield "modifier", without_tokens(t, k - (coordinated or before.endswith(("AC", "#"))), k + 1)


def _half_known(word: str) -> bool:
    """Whether what a marker is glued to may say something by itself: "leftM", "noM", "nonM"."""
    return any(part.startswith("non") or is_known(part) for part in re.findall(r"[a-z]+", word) if len(part) > 1 and part not in ("type", "like"))


def _hides_more(t: Tagged, k: int) -> bool:
    """Whether the marker before a noun may be more than a modifier: a verb, "no", "may represent"."""
    before = t.tags[:k]
    if not before and _DENIED_MOSTLY.fullmatch(t.text):
        return True
    if (not before or before[-1] in ",;:BK") and t.word(k + 1) in POLARITY_RISK:
        return True
    if before.endswith("B"):
        return not re.search(r"(?:E|^)B$", before)
    if before.endswith("A") and t.word(k - 1) in PREDICATES and re.search("[BV]", before):
        return True
    if before.endswith(("W", "#")) and t.word(k + 1) in DEFORMED:
        return False
    if before.endswith("W"):
        return t.word(k - 1) not in NOUN_MODIFIERS
    if before.endswith(","):
        if re.search(r"[DP]A,$", before) and t.tags[k + 1 : k + 2] == "W":
            return False
        clause = re.split(r"[;:]", before)[-1]
        in_list = "N" in clause or re.match(r"[^;:]*C[^;:]*B", t.tags[k:]) or re.match(r"[^,;:]*,[^;:]*C", t.tags[k:])
        return not in_list and bool(re.search(r"[WT]", clause))
    return False


def _aside(t: Tagged, k: int) -> Iterator[Proposal]:
    left, right = t.tags.rfind(",", 0, k), t.tags.find(",", k)
    if left < 0 or right < 0 or ";" in t.tags[left:right]:
        return
    if TIES & {t.word(i) for i in range(left, right)}:
        return
    if t.tags[right + 1 : right + 2] in tuple("BVPR") and t.word(right + 1) not in ("recommend", "consider", "correlate"):
        yield "aside", without_tokens(t, left, right + 1)
    yield "aside", without_tokens(t, left, right)


def _clause(t: Tagged, k: int) -> Iterator[Proposal]:
    cuts = [0, *(m.start() for m in _CLAUSE.finditer(t.tags)), len(t.tags)]
    for number, (start, end) in enumerate(pairwise(cuts)):
        if not start <= k < end or len(cuts) == 2:
            continue
        part = t.tags[start:end]
        words = {t.word(i) for i in range(start, end)}
        if ("K" in part and words & {"cannot", "may", "could", "excluded", "possible", "might", "for"}) or words & (EXCEPTIONS - {"without", "should"} | {"former", "latter", "rather"}):
            return
        if number == 0:
            rest = re.compile(r"[;,]?[CK]?").match(t.tags, end)
            begin = rest.end() if rest else end
            if _INDEPENDENT.match(t.tags[begin:]) and t.tags[begin : begin + 1] not in "RK" and t.word(begin) not in ("this", "it", "they", "these", "that"):
                yield "clause", t.text[t.spans[begin][0] :]
        elif re.search("[BV]", t.tags[:start]) or t.tags[:1] in "NEA" or number > 1:
            last = end == len(t.tags)
            final = "." if last and t.tags.endswith(".") else ""
            yield "clause", without_tokens(t, start, end, final)


def _lead(t: Tagged, k: int) -> Iterator[Proposal]:
    comma = t.tags.find(",", k)
    if comma < 0 or "," in t.tags[:k] or {t.word(i) for i in range(comma)} & EXCEPTIONS:
        return
    rest = t.tags[comma + 1 :]
    fragment = not re.search("[BV]", t.tags) and not {t.word(i) for i in range(comma)} & PAST
    if rest and rest[0] not in "CKR" and t.word(comma + 1) not in CARRIERS - HEDGES and (_INDEPENDENT.match(rest) or rest[0] == "H" or (fragment and rest[0] in "WA")):
        yield "lead", t.text[t.spans[comma + 1][0] :]


def _label(t: Tagged, k: int) -> Iterator[Proposal]:
    colon = t.tags.find(":", k)
    if 0 <= colon <= k + (10 if "dr" in (t.word(k - 1), t.word(k - 2)) else 4) and k <= 6 and colon + 1 < len(t.spans):
        yield "label", t.text[t.spans[colon + 1][0] :]
