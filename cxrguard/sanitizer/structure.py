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
from cxrguard.sanitizer.tags import Tagged, is_known, tagged
from cxrguard.sanitizer.tidying import HOLE
from cxrguard.sanitizer.vocabulary import (
    CARRIERS,
    COUNTED,
    DEFORMED,
    EARLIER,
    EXCEPTIONS,
    FINDINGS,
    HEDGES,
    INTERPRETED,
    INTERPRETS,
    NOUN_MODIFIERS,
    PAST,
    PLACES_BY_NAME,
    POLARITY_RISK,
    PREDICATES,
    REGIONS,
    RELATED_TO,
    RELATIONAL,
    TIES,
)

Proposal = tuple[str, str]  # rule, sentence

# Alone these are denied as often as not.
_DENIED_MOSTLY = re.compile(rf"{MARK} (?:acute |focal |pleural |lobar |large )*(?:pneumothora(?:x|ces)|effusions?|consolidations?|infiltrates?)[.]?", re.IGNORECASE)
_SIDE = re.compile(r"left|right|bilateral|both|bibasilar", re.IGNORECASE)
_START = r"[DAWENM#RTQGo]{1,10}?[BV]"
_INDEPENDENT = re.compile(rf"(?:[EN]|H?{_START})")


def proposals(sentence: str) -> Iterator[Proposal]:
    """Ways to take the first marker out of a sentence, those that keep most first."""
    t = tagged(sentence)
    k = next((i for i, tag in enumerate(t.tags) if tag in "MQ"), -1)
    if k < 0:
        return
    yield from _modifier(t, k)
    yield from (("list_item", new) for new in without_masked_items(t, k))
    yield from _aside(t, k)
    yield from _phrase(t, k)
    yield from _clause(t, k)
    yield from _lead(t, k)
    yield from _label(t, k)


def _cut(t: Tagged, start: int, end: int, new: str = HOLE) -> str:
    """The sentence without tokens ``start`` to before ``end``."""
    left = t.text[: t.spans[start][0]] if start < len(t.spans) else t.text
    right = t.text[t.spans[end][0] :] if end < len(t.spans) else ""
    return f"{left}{new}{' ' if right and not right.startswith(tuple(',.;:)!?')) else ''}{right}"


def _modifier(t: Tagged, k: int) -> Iterator[Proposal]:
    before, after = t.tags[:k], t.tags[k + 1 :]
    if t.word(k + 1) in COUNTED or re.match(r"x\d", t.word(k + 1)) or (t.word(k - 1) in ("a", "an") and t.word(k + 1) in REGIONS and t.tags[k + 2 : k + 3] != "W"):
        return
    if t.tags[k] == "Q":
        # A part of a compound before its noun ("M-Ganz catheter"); a denial of some kind would come to deny all.
        if re.match(r"[AT]{0,3}W" if k else r"[AT]{0,3}W+[^.W]", after) and re.search(r"[a-z]", t.word(k)) and not _half_known(t.word(k)) and not re.search(r"N[^,;:K]*$", before):
            yield "modifier", _cut(t, k, k + 1)
        return
    if t.tags[k] != "M" or not re.match(r"(?:#U|[AT#H]){0,5}W" if before.endswith("N") else r"(?:#U|[AT#]){0,5}W", after) or _hides_more(t, k):
        return
    if t.word(k + 1) in PLACES_BY_NAME:
        if t.tags[k + 2 : k + 3] == "W":
            yield "modifier", _cut(t, k, k + 2)
        return
    coordinated = re.search(r"[DP]A,$", before) is not None and after[:1] == "W"  # "in stable, M position"
    yield "modifier", _cut(t, k - (coordinated or before.endswith(("AC", "#"))), k + 1)


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
        yield "aside", _cut(t, left, right + 1)
    yield "aside", _cut(t, left, right)


def _phrase(t: Tagged, k: int) -> Iterator[Proposal]:
    """Cuts from the start of a phrase before the marker to the end of the marker's noun phrase, or of the segment."""
    if t.word(0) == "if":
        return
    n = len(t.tags)
    stop = re.search(r"[.!?]?$", t.tags)
    end_all = stop.start() if stop else n
    segment = re.compile(r"[,;]|$").search(t.tags, k)
    end_segment = min(segment.start() if segment else n, end_all)
    ends = [k + 1] if k + 1 >= end_all or t.tags[k + 1] in "PoBVCTGKRN,;" else []
    run = re.compile(r"[AWT#UQM]*").match(t.tags, k + 1)
    if run and (t.tags[k] == "Q" or re.match(r"[AWT#UQM]*[BPV,;]", t.tags[k + 1 :])):
        ends.append(run.end())
    of = re.compile(r"[AWT#UQM]*o[DAWT#]+").match(t.tags, k + 1)
    if of:
        ends.append(of.end())
    ends += [end_segment, end_all]
    starts = [i for i in range(k - 1, 0, -1) if _starts_phrase(t, i)]
    if (opens := _interpretation(t, k)) is not None:
        # A masked hedge or verb: what follows it hangs on it.
        starts, ends = [opens, *starts], [end_segment, end_all, *ends]
    for start in starts[:8]:
        begin = _with_carrier(t, start)
        for end in dict.fromkeys(ends):
            words = {t.word(i) for i in range(begin, end)}
            # An interpretation goes to its end, and so does what a comma parts from its start.
            if end not in (end_segment, end_all) and (opens is not None or t.tags[begin] == "R" or "," in t.tags[begin + 1 : k]):
                continue
            if ";" in t.tags[begin:k]:
                continue
            if t.word(end) == "but" and re.search("[BV]", t.tags[begin:end]):
                continue  # What the "but" limits.
            if t.tags[begin] == "C" and "V" in t.tags[begin:k] and end != end_all:
                continue
            if t.tags[begin - 1 : begin + 1] == "oR" or t.word(end) == "as" or (t.tags[begin] == "," and t.tags[end : end + 1] == "P"):
                continue
            if t.tags[begin] == "," and t.tags[end : end + 1] in tuple("TGVB"):
                continue
            if t.tags[end : end + 1] == "," and t.word(end + 1) in ("another", "others", "other", "second", "third"):
                continue
            # What follows with "of" hung on what is cut.
            if t.tags[end : end + 1] == "o" or (begin == 1 and t.tags[begin] == "o") or (t.word(end) == "from" and re.search("[BV]", t.tags[begin:end])):
                continue
            if t.tags[begin] == "C" and t.tags[end : end + 1] in tuple("BVWAGT"):
                continue
            # A negation that loses its limits says more than it did.
            if re.search(r"N[^,;:K]*$", t.tags[:begin]) and _limits_denial(t, begin, k):
                continue
            # "No edema on the left" must not become "No edema": a side stays with what it limits.
            if t.tags[begin] in "Po" and t.word(begin) != "with" and begin != opens and _SIDE.search(t.slice(begin, end)):
                continue
            if t.tags[begin] == "o" and t.word(begin - 1) in RELATIONAL:
                continue
            if words & TIES or "K" in t.tags[begin:end] or _fragment(t, begin, end, k, begin == opens) or (t.word(begin - 1) in CARRIERS and not (t.tags[begin] == "," and t.word(begin - 1) == "level")) or (start == k and end == k + 1):
                continue
            yield "phrase", _cut(t, begin, end)


def _starts_phrase(t: Tagged, i: int) -> bool:
    if t.tags[i] == "T":
        return t.tags[i + 1] not in "WA"  # "Well circumscribed nodule": the participle is the noun's.
    if t.tags[i] == "R":
        return t.tags[i - 1] not in "Po"  # "The cause of which is M"
    return t.tags[i] in "PoGVHX," or t.word(i) in ("and", "without")


def _interpretation(t: Tagged, k: int) -> int | None:
    """Where an interpretation that the marker opens starts ("opacity most M representing", "density M atelectasis"), if it is one."""
    start = k
    while t.word(start - 1) in ("most", "more", "also"):
        start -= 1
    if t.tags[start - 1 : start] not in tuple("WA#T") or start < 1:
        return None
    if t.word(0) in ("the", "this", "these") and not re.search("[BV]", t.tags[:k]):
        return None  # A subject that loses its verb.
    following, tag = t.word(k + 1), t.tags[k + 1 : k + 2]
    if following in INTERPRETS or (start < k and tag in tuple("WA")):
        return start
    if t.word(start - 1) in INTERPRETED and (following == "from" or tag in tuple("WA")):
        return start
    return start if tag in tuple("GT") and (t.word(start - 1) in INTERPRETED or t.word(start - 1) in FINDINGS) else None


def _with_carrier(t: Tagged, start: int) -> int:
    while start > 1 and not (t.tags[start] == "," and t.word(start - 1) == "level") and (t.word(start - 1) in CARRIERS or t.tags[start - 1] == "H" or t.word(start - 1) == "most"):
        start -= 1
    if t.tags[start] == "V" and t.tags[start - 1] == "B":
        start -= 1
    if (t.word(start) == "to" and t.word(start - 1) in RELATED_TO) or (t.word(start) == "out" and t.word(start - 1) == "rule"):
        start -= 1
    if start > 1 and t.tags[start - 1] == "," and start - 1 > 0:
        start -= 1
    return start


def _limits_denial(t: Tagged, begin: int, k: int) -> bool:
    """Whether what is cut after a "no" may say where: all but a study that came before, and one place before the marker."""
    if t.word(begin) == "to" and t.word(begin + 1) in INTERPRETS:
        return False  # "To suggest M" limits nothing.
    if t.tags[begin] in "PoC":
        return not (t.word(begin) in ("on", "from") and re.fullmatch("[DA]+", t.tags[begin + 1 : k]) and t.word(k - 1) in EARLIER)
    return re.search(r"P[DAWT]+P", t.tags[begin:k]) is not None


def _fragment(t: Tagged, begin: int, end: int, k: int, interpreted: bool) -> bool:
    """Whether the cut would leave a subject without its verb ("The heart.") or half a noun phrase."""
    left, cut = t.tags[:begin], t.tags[begin:end]
    rest = t.tags[end:].strip(".!?")
    ends_open = left[-1:] in tuple("DoPCNHG") or (left[-1:] == "A" and t.tags[begin : begin + 1] != "," and not t.word(begin - 1).endswith(("lateral", "laterally", "frontal")))
    if not left.strip(",.;") or (left[-1:] == "B" and rest[:1] in tuple(",;")) or (ends_open and rest[:1] in ("", ",", ";") and not re.search(r"B[A,T]*$", left)):
        return True
    if re.search("[BV]", cut) and not interpreted and not re.search("[BVR]", left + rest):
        return left[:1] in "DER" or not (cut[0] in ",R" or t.word(k + 1) in INTERPRETS or re.search("[BV]", t.tags[begin:k]))
    return False


def _clause(t: Tagged, k: int) -> Iterator[Proposal]:
    cuts = [0, *(m.start() for m in re.finditer(r";|,?C(?=[DAWENM#RTQGo]{1,10}?[BV])|,?C(?=N)|,K|,(?=E?[DAWM#TQ]{0,8}[B])|,(?=N)", t.tags)), len(t.tags)]
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
            yield "clause", _cut(t, start, end, final)


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
