"""Structural repairs: the smallest phrase, list item, aside or clause around a marker that can go.

Works on word classes (:mod:`cxrguard.sanitizer.tags`). Each proposal is a sentence with fewer markers; whether it is
grammatical and says nothing new is decided by the caller, so these rules may be generous.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from cxrguard.sanitizer.rules import HOLE
from cxrguard.sanitizer.tags import Tagged, tagged

Proposal = tuple[str, str]  # rule, sentence

# Before these a marker may hide "no": "XXXX change", "XXXX evidence of".
_POLARITY_RISK = frozenset(["change", "changes", "evidence", "acute", "significant", "definite", "suspicious", "interval", "indication"])
_NOUN_MODIFIERS = frozenset(["lung", "chest", "rib", "heart", "lobe", "spine", "lymph", "sternotomy", "pacemaker", "picc", "line", "tube", "aorta", "dual", "lead", "vertebral", "body"])
# Words that bind a marked phrase to what stands before it: they go with it.
_CARRIERS = frozenset(
    ["consistent", "compatible", "suspicious", "suggestive", "concerning", "worrisome", "secondary", "due", "related", "evidence", "signs", "sign", "question", "possible", "possibly", "likely", "possibility", "differential", "differentials", "reaccumulation", "probably", "representing", "suggesting", "reflecting", "indicating", "versus", "vs", "which", "that", "as", "negative"]
)
_TIES = frozenset(["except", "but", "although", "though", "however", "unless", "if", "whether", "excluded", "ruled", "exclude", "resolved", "cleared", "removed", "absent", "unlikely", "otherwise"])
# A marker before these is a number.
_COUNTED = frozenset(["day", "days", "hour", "hours", "week", "weeks", "month", "months", "year", "years", "yo", "o'clock", "distribution", "sign", "disease", "syndrome", "fr", "french"])
_SIDE = re.compile(r"left|right|bilateral|both|bibasilar", re.IGNORECASE)
_EXCEPTIONS = frozenset(["if", "unless", "except", "other", "apart", "aside", "besides", "excluding", "without", "should"])
_PLURAL_VERBS = {"are": "is", "were": "was", "have": "has", "appear": "appears", "remain": "remains", "seem": "seems"}
_START = r"[DAWENM#RTQGo]{1,10}?[BV]"
_INDEPENDENT = re.compile(rf"(?:[EN]|H?{_START})")


def proposals(sentence: str) -> Iterator[Proposal]:
    """Ways to take the first marker out of a sentence, those that keep most first."""
    t = tagged(sentence)
    k = next((i for i, tag in enumerate(t.tags) if tag in "MQ"), -1)
    if k < 0:
        return
    yield from _modifier(t, k)
    yield from _list_item(t, k)
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
    if t.word(k + 1) in _COUNTED:
        return
    if t.tags[k] != "M" or not re.match(r"[AT#]{0,5}W", after) or _hides_more(t, k):
        return
    yield "modifier", _cut(t, k - before.endswith(("AC", "#")), k + 1)


def _hides_more(t: Tagged, k: int) -> bool:
    """Whether the marker before a noun may be more than a modifier: a verb, "no", "may represent"."""
    before = t.tags[:k]
    if (not before or before[-1] in ",;:BK") and t.word(k + 1) in _POLARITY_RISK:
        return True
    if before.endswith("B"):
        return not re.search(r"(?:E|^)B$", before)
    if before.endswith("W"):
        return t.word(k - 1) not in _NOUN_MODIFIERS
    if before.endswith(","):
        clause = re.split(r"[;:]", before)[-1]
        in_list = "N" in clause or re.match(r"[^;:]*C[^;:]*B", t.tags[k:]) or re.match(r"[^,;:]*,[^;:]*C", t.tags[k:])
        return not in_list and bool(re.search(r"[WT]", clause))
    return False


_ITEM = "DAWMQ#T-/G"


def _list_item(t: Tagged, k: int) -> Iterator[Proposal]:
    low = k
    while low > 0 and t.tags[low - 1] in _ITEM + ",C":
        low -= 1
    high = k + 1
    while high < len(t.tags) and t.tags[high] in _ITEM + ",C":
        high += 1
    while high > k and t.tags[high - 1] in ",C":
        high -= 1
    if low and t.tags[low - 1] == "B" and high < len(t.tags) and t.tags[high] in "BV":
        comma = t.tags.find(",", low, k)
        if comma < 0:
            return
        low = comma + 1
    while low < k and t.tags[low] in ",C":
        low += 1
    if "C" not in t.tags[low:high]:
        return
    yield from _without_items(t, low, high)


def _without_items(t: Tagged, low: int, high: int) -> Iterator[Proposal]:
    items = [(low + m.start(), low + m.end()) for m in re.finditer(r"[^,C]+", t.tags[low:high])]
    kept = [item for item in items if not re.search("[MQ]", t.tags[slice(*item)])]
    if t.word(low - 1) in ("neither", "between"):
        return
    conjunction = next(t.word(i) for i in range(high - 1, low - 1, -1) if t.tags[i] == "C")
    if not kept or len(kept) == len(items):
        return
    if kept[-1] != items[-1] and t.tags[kept[-1][1] - 1] not in "WTG#":
        return
    governed = re.search(r"N[^;:KB]*$|N[^;:K]*B?[DAWT#,C]*$|H", t.tags[:low]) or re.search(r"\b(?:may|might|could|can|possib|prob|like)", t.text[: t.spans[low][0]].lower())
    if conjunction in ("or", "and/or", "nor") and len(kept) == 1 and not governed:
        return
    texts = [t.slice(*item) for item in kept]
    if kept[0] != items[0] and t.word(items[0][0]) == "the" and t.tags[kept[0][0]] != "D":
        texts[0] = "the " + texts[0]
    oxford = ",C" in t.tags[low:high]
    if len(texts) > 2:
        joined = ", ".join(texts[:-1]) + ("," if oxford else "") + f" {conjunction} {texts[-1]}"
    else:
        joined = f" {conjunction} ".join(texts)
    left, right = t.text[: t.spans[low][0]], t.text[t.spans[high - 1][1] :]
    if len(texts) == 1:
        left = re.sub(r"\b(?:both|either) $", "", left, flags=re.IGNORECASE)
        joined = re.sub(r"^(?:both|either) ", "", joined, flags=re.IGNORECASE)
        right = _agree(texts[0], right)
    yield "list_item", left + joined + right


def _agree(subject: str, right: str) -> str:
    last = subject.split()[-1].lower()
    if last.endswith("s") and not last.endswith(("ss", "us", "is", "thorax")):
        return right
    return re.sub(r"^ (are|were|have|appear|remain|seem)\b", lambda m: " " + _PLURAL_VERBS[m.group(1)], right)


def _aside(t: Tagged, k: int) -> Iterator[Proposal]:
    left, right = t.tags.rfind(",", 0, k), t.tags.find(",", k)
    if left < 0 or right < 0 or ";" in t.tags[left:right]:
        return
    if _TIES & {t.word(i) for i in range(left, right)}:
        return
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
    if t.tags[k] == "Q" and run:
        ends.append(run.end())
    ends += [end_segment, end_all]
    starts = [i for i in range(k - 1, 0, -1) if t.tags[i] in "PoGTVHRX," or t.word(i) in ("and", "without")]
    if t.tags[k - 1 : k] == "W" and t.tags[k + 1 : k + 2] in ("G", "V", "T", "H"):
        # A masked hedge or verb: what follows it hangs on it.
        starts, ends = [k, *starts], [end_segment, end_all, *ends]
    for start in starts[:8]:
        begin = _with_carrier(t, start)
        for end in dict.fromkeys(ends):
            words = {t.word(i) for i in range(begin, end)}
            if t.tags[begin] == "C" and t.tags[end : end + 1] in ("B", "V"):
                continue
            # A negation that loses its limits says more than it did.
            if t.tags[begin] in "PoC" and re.search(r"N[^,;:K]*$", t.tags[:begin]):
                continue
            # "No edema on the left" must not become "No edema": a side stays with what it limits.
            if t.tags[begin] != "," and _SIDE.search(t.slice(begin, end)):
                continue
            if words & _TIES or "K" in t.tags[begin:end] or _fragment(t, begin, end) or t.word(begin - 1) in _CARRIERS or (start == k and end == k + 1):
                continue
            yield "phrase", _cut(t, begin, end)


def _with_carrier(t: Tagged, start: int) -> int:
    while start > 1 and (t.word(start - 1) in _CARRIERS or (t.tags[start - 1] == "H")):
        start -= 1
    if start > 1 and t.tags[start - 1] == "," and start - 1 > 0:
        start -= 1
    return start


def _fragment(t: Tagged, begin: int, end: int) -> bool:
    """Whether the cut would leave a subject without its verb ("The heart.") or half a noun phrase."""
    left, cut = t.tags[:begin], t.tags[begin:end]
    rest = t.tags[end:].strip(".!?")
    if not left.strip(",.;") or (left and left[-1] in "DAoPCNH" and not rest and not re.search(r"B[A,T]*$", left)):
        return True
    if re.search("[BV]", cut) and not re.search("[BVR]", left + rest):
        return left[:1] in "DER"
    return False


def _clause(t: Tagged, k: int) -> Iterator[Proposal]:
    cuts = [0, *(m.start() for m in re.finditer(r";|,?C(?=[DAWENM#RTQGo]{1,10}?[BV])|,?C(?=N)|,K|,(?=E?[DAWM#TQ]{0,8}[B])|,(?=N)", t.tags)), len(t.tags)]
    for number, (start, end) in enumerate(pairwise(cuts)):
        if not start <= k < end or len(cuts) == 2:
            continue
        part = t.tags[start:end]
        words = {t.word(i) for i in range(start, end)}
        if ("K" in part and words & {"cannot", "may", "could", "excluded", "possible", "might", "for"}) or words & {"if", "unless", "except", "former", "latter"}:
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
    if comma < 0 or "," in t.tags[:k] or {t.word(i) for i in range(comma)} & _EXCEPTIONS:
        return
    rest = t.tags[comma + 1 :]
    fragment = not re.search("[BV]", t.tags)
    if rest and rest[0] not in "CKR" and (_INDEPENDENT.match(rest) or rest[0] == "H" or (fragment and rest[0] in "WA")):
        yield "lead", t.text[t.spans[comma + 1][0] :]


def _label(t: Tagged, k: int) -> Iterator[Proposal]:
    colon = t.tags.find(":", k)
    if 0 <= colon <= k + 4 and k <= 6 and colon + 1 < len(t.spans):
        yield "label", t.text[t.spans[colon + 1][0] :]
