"""The smallest phrase around a marker that can go: from where a phrase starts to where one ends, where nothing hangs on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from cxrguard.sanitizer.tags import Tagged
from cxrguard.sanitizer.tidying import HOLE
from cxrguard.sanitizer.vocabulary import (
    CARRIERS,
    EARLIER,
    FINDINGS,
    INTERPRETED,
    INTERPRETS,
    RELATED_TO,
    RELATIONAL,
    TIES,
)

_SIDE = re.compile(r"left|right|bilateral|both|bibasilar", re.IGNORECASE)
_MOST_STARTS = 8


def without_tokens(t: Tagged, start: int, end: int, new: str = HOLE) -> str:
    """The sentence without tokens ``start`` to before ``end``."""
    left = t.text[: t.spans[start][0]] if start < len(t.spans) else t.text
    right = t.text[t.spans[end][0] :] if end < len(t.spans) else ""
    return f"{left}{new}{' ' if right and not right.startswith(tuple(',.;:)!?')) else ''}{right}"


def cut_phrases(t: Tagged, k: int) -> Iterator[str]:
    """Cuts from the start of a phrase before the marker to the end of the marker's noun phrase, or of the segment."""
    if t.word(0) == "if":
        return
    near, far = _phrase_ends(t, k)
    starts, ends = [i for i in range(k - 1, 0, -1) if _starts_phrase(t, i)], [*near, *far]
    opens = _interpretation(t, k)
    if opens is not None:
        # A masked hedge or verb: what follows it hangs on it.
        starts, ends = [opens, *starts], [*far, *near]
    for start in starts[:_MOST_STARTS]:
        begin = _with_carrier(t, start)
        for end in dict.fromkeys(ends):
            if (start, end) == (k, k + 1) or (end not in far and (opens is not None or _goes_to_its_end(t, begin, k))):
                continue
            cut = _Cut(t, begin, end, k, begin == opens, last=end == far[-1])
            if not (_leaves_open(cut) or _leaves_hanging(cut) or _says_more(cut) or _fragment(cut)):
                yield without_tokens(t, begin, end)


class _Cut(NamedTuple):
    """Tokens ``begin`` to before ``end`` of ``t``, with the marker ``k`` among them, that may go.

    Attributes:
        t: The sentence.
        begin: Where the cut begins.
        end: Where it ends.
        k: The marker.
        interpreted: It is an interpretation, begun by the marker.
        last: It goes to the sentence's end.

    """

    t: Tagged
    begin: int
    end: int
    k: int
    interpreted: bool
    last: bool


def _phrase_ends(t: Tagged, k: int) -> tuple[list[int], tuple[int, int]]:
    """Where the marker's noun phrase may end, and where its segment and the sentence end."""
    stop = re.search(r"[.!?]?$", t.tags)
    end_all = stop.start() if stop else len(t.tags)
    segment = re.compile(r"[,;]|$").search(t.tags, k)
    end_segment = min(segment.start() if segment else len(t.tags), end_all)
    near = [k + 1] if k + 1 >= end_all or t.tags[k + 1] in "PoBVCTGKRN,;" else []
    run = re.compile(r"[AWT#UQM]*").match(t.tags, k + 1)
    if run and (t.tags[k] == "Q" or re.match(r"[AWT#UQM]*[BPV,;]", t.tags[k + 1 :])):
        near.append(run.end())
    of = re.compile(r"[AWT#UQM]*o[DAWT#]+").match(t.tags, k + 1)
    if of:
        near.append(of.end())
    return near, (end_segment, end_all)


def _goes_to_its_end(t: Tagged, begin: int, k: int) -> bool:
    """Whether a part of the phrase may not go without the rest: a relative clause, and what a comma parts from its start."""
    return t.tags[begin] == "R" or "," in t.tags[begin + 1 : k]


def _leaves_open(cut: _Cut) -> bool:
    """Whether what stands before the cut asks for more, or what is cut limits what stays."""
    t, begin = cut.t, cut.begin
    before, first, inside = t.word(begin - 1), t.tags[begin], t.tags[begin : cut.end]
    if ";" in t.tags[begin : cut.k] or "K" in inside or TIES & {t.word(i) for i in range(begin, cut.end)}:
        return True
    if before in CARRIERS and not (first == "," and before == "level"):
        return True
    return t.tags[begin - 1 : begin + 1] == "oR" or (first == "o" and (begin == 1 or before in RELATIONAL))


def _leaves_hanging(cut: _Cut) -> bool:
    """Whether what stands behind the cut hung on it."""
    t, begin, end = cut.t, cut.begin, cut.end
    first, after, word = t.tags[begin], t.tags[end : end + 1], t.word(end)
    verb = re.search("[BV]", t.tags[begin:end]) is not None
    if after == "o" or word == "as" or (verb and word in ("but", "from")):  # Also what a "but" limits.
        return True
    if after == "," and t.word(end + 1) in ("another", "others", "other", "second", "third"):
        return True
    if first == "C":
        return after in tuple("BVWAGT") or ("V" in t.tags[begin : cut.k] and not cut.last)
    return first == "," and after in tuple("PTGVB")


def _says_more(cut: _Cut) -> bool:
    """Whether what stays would say more than it did: a negation that loses its limits, or a side that goes with a place."""
    t, begin = cut.t, cut.begin
    if re.search(r"N[^,;:K]*$", t.tags[:begin]) and _limits_denial(t, begin, cut.k):
        return True
    # "No edema on the left" must not become "No edema".
    place = t.tags[begin] in "Po" and t.word(begin) != "with" and not cut.interpreted
    return place and _SIDE.search(t.slice(begin, cut.end)) is not None


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
    """Where the phrase starts with the words before it that go with it: "suspicious for", "related to", a comma."""
    while start > 1 and not (t.tags[start] == "," and t.word(start - 1) == "level"):
        if t.word(start - 1) not in CARRIERS | {"most"} and t.tags[start - 1] != "H":
            break
        start -= 1
    if t.tags[start] == "V" and t.tags[start - 1] == "B":
        start -= 1
    if (t.word(start) == "to" and t.word(start - 1) in RELATED_TO) or (t.word(start) == "out" and t.word(start - 1) == "rule"):
        start -= 1
    if start > 1 and t.tags[start - 1] == ",":
        start -= 1
    return start


def _limits_denial(t: Tagged, begin: int, k: int) -> bool:
    """Whether what is cut after a "no" may say where: all but a study that came before, and one place before the marker."""
    if t.word(begin) == "to" and t.word(begin + 1) in INTERPRETS:
        return False  # "To suggest M" limits nothing.
    if t.tags[begin] in "PoC":
        return not (t.word(begin) in ("on", "from") and re.fullmatch("[DA]+", t.tags[begin + 1 : k]) and t.word(k - 1) in EARLIER)
    return re.search(r"P[DAWT]+P", t.tags[begin:k]) is not None


def _fragment(cut: _Cut) -> bool:
    """Whether the cut would leave a subject without its verb ("The heart.") or half a noun phrase."""
    t, begin = cut.t, cut.begin
    left, inside = t.tags[:begin], t.tags[begin : cut.end]
    rest = t.tags[cut.end :].strip(".!?")
    bare_adjective = left[-1:] == "A" and inside[:1] != "," and not t.word(begin - 1).endswith(("lateral", "laterally", "frontal"))
    ends_open = (left[-1:] in tuple("DoPCNHG") or bare_adjective) and not re.search(r"B[A,T]*$", left)
    if not left.strip(",.;") or (left[-1:] == "B" and rest[:1] in tuple(",;")) or (ends_open and rest[:1] in ("", ",", ";")):
        return True
    if re.search("[BV]", inside) and not cut.interpreted and not re.search("[BVR]", left + rest):
        return left[:1] in "DER" or not (inside[0] in ",R" or t.word(cut.k + 1) in INTERPRETS or re.search("[BV]", t.tags[begin : cut.k]))
    return False
