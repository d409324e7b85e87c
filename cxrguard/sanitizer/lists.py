"""Lists inside a sentence ("heart, M and lungs"): the items without a marker, joined anew."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cxrguard.sanitizer.tags import Tagged

_PLURAL_VERBS = {"are": "is", "were": "was", "have": "has", "appear": "appears", "remain": "remains", "seem": "seems"}
_ITEM = "DAWMQ#T-/G"


def without_masked_items(t: Tagged, k: int) -> Iterator[str]:
    """The sentence without the masked items of the list that the marker at token ``k`` stands in; at most one."""
    low = k
    while low > 0 and t.tags[low - 1] in _ITEM + ",C":
        low -= 1
    high = k + 1
    while high < len(t.tags) and t.tags[high] in _ITEM + ",C":
        high += 1
    while high > k and t.tags[high - 1] in ",C":
        high -= 1
    if low and re.search("[BVT]", t.tags[:low]) and high < len(t.tags) and t.tags[high] in "BV":
        comma = t.tags.find(",", low, k)
        if comma < 0:
            return
        low = comma + 1
    while low < k and t.tags[low] in ",C":
        low += 1
    # "A and M, right greater than left": what stands in apposition is no item.
    last = t.tags.rfind(",", low, high)
    if last > t.tags.rfind("C", low, high) > low and re.fullmatch("A+", t.tags[last + 1 : high]) and t.tags[high : high + 1] == "P":
        high = last
    if "C" not in t.tags[low:high]:
        return
    # "Opacities, M atelectasis and scarring": the marker may be a "likely" of all that follows.
    if (
        t.tags[k - 1 : k + 1] == ",M"
        and re.match("[AW]", t.tags[k + 1 :])
        and t.tags.count(",", low, high) == 1
        and not re.search(r"N[^;:K]*$", t.tags[:k])
    ):
        return
    yield from _without_items(t, low, high)


def _without_items(t: Tagged, low: int, high: int) -> Iterator[str]:
    items = [(low + m.start(), low + m.end()) for m in re.finditer(r"[^,C]+", t.tags[low:high])]
    kept = [item for item in items if not re.search("[MQ]", t.tags[slice(*item)])]
    if t.word(low - 1) in ("neither", "between"):
        return
    conjunction = next(t.word(i) for i in range(high - 1, low - 1, -1) if t.tags[i] == "C")
    if not kept or len(kept) == len(items) or (kept[-1] != items[-1] and t.word(high) in ("as", "of", "from", "than", "to")):
        return
    if kept[-1] != items[-1] and t.tags[kept[-1][1] - 1] not in "WTG#":
        return
    governed = re.search(r"N[^;:KB]*$|N[^;:K]*B?[DAWT#,C]*$|H", t.tags[:low]) or re.search(
        r"\b(?:may|might|could|can|possib|prob|like|negative for|free of|clear of|den(?:y|ies|ied)\b|rule out|r/o|exclude|eval|assess)",
        t.text[: t.spans[low][0]].lower(),
    )
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
    yield left + joined + right


def _agree(subject: str, right: str) -> str:
    last = subject.split()[-1].lower()
    if last.endswith("s") and not last.endswith(("ss", "us", "is", "thorax")):
        return right
    return re.sub(r"^ (are|were|have|appear|remain|seem)\b", lambda m: " " + _PLURAL_VERBS[m.group(1)], right)
