"""What the phrase rules write where a fixed text will not do: each takes a rule's match, in which every marker is :data:`MARK`."""

from __future__ import annotations

import re

from cxrguard.sanitizer.conventions import MARK
from cxrguard.sanitizer.tags import tag_of
from cxrguard.sanitizer.tidying import HOLE
from cxrguard.sanitizer.vocabulary import (
    STUDY,
    WHEN,
)

_SINCE = re.compile(
    rf"(?<=[a-z]) (?:since|from|compared (?:with|to)|relative to|as of|on|versus|vs\.?) (?:\w+ ){{0,4}}{WHEN}$", re.IGNORECASE
)
_POINTER = re.compile(
    rf"(?:see|series|ser|se|image|im|images|slice|compared?|since|on|at|from|as|per|by|date|dated|{STUDY}|previously|prior|was|formerly|dr|"
    r"or|and|but|not|no|likely|possibly|probably|\?|discussed|[a-h\d]$)\b|\?",
    re.IGNORECASE,
)
_PREDICATE = re.compile(r"\b(?:is|are|was|were|been)(?: \w{1,20}ly)?$")
_DONE_BY = re.compile(
    r" ?(placed|performed|requested|ordered|interpreted|read|suggested|recommended|noted|described|reviewed|inserted|removed|obtained|"
    r"acquired)\b",
    re.IGNORECASE,
)
_NOT_OF_THE_FIRST = frozenset(["left", "right", "new", "stable", "bilateral"])


def bracketed(match: re.Match[str]) -> str:
    """What stays of a remark in brackets: the parts without a marker that point nowhere."""
    inner = match.group()[2:-1] if match.group()[0] == " " else match.group()[1:-1]
    if _POINTER.match(inner):
        return HOLE
    parts = [_SINCE.sub("", part).strip() for part in re.split(r"[,;]", inner)]
    kept = [part for part in parts if MARK not in part and part and not _POINTER.match(part)]
    if not kept or not re.match(r"[^\W\d_]{3}", kept[0]) or any(len(part.split()) > 4 for part in kept):
        return HOLE
    opening, closing = ("(", ")") if match.group()[-1] == ")" else ("[", "]")
    return f"{' ' if match.group()[0] == ' ' else ''}{opening}{', '.join(kept)}{closing}"


def enumerated(match: re.Match[str]) -> str:
    """A list inside a sentence ("(a) M, (b) edema, and (c) M") without its masked items; a single one needs no letter."""
    items = [item.strip(" ,;") for item in re.split(r"(?:,|;)? ?(?:and )?\([a-h1-9]\) ?", match.group(0))][1:]
    kept = [item for item in items if item and MARK not in item]
    if not kept or MARK not in match.group():
        return match.group()
    if len(kept) == 1:
        return kept[0]
    letters = "abcdefgh" if "(a)" in match.group(0) else "12345678"
    parts = [f"({letter}) {item}" for letter, item in zip(letters, kept, strict=False)]
    return ", ".join(parts[:-1]) + (", and " if len(parts) > 2 else " and ") + parts[-1]


def one_marker(match: re.Match[str]) -> str:
    """One marker for two ("mild M and M atelectasis"); an adjective of the first need not be the noun's."""
    first = match.group("first")
    apart = first and (tag_of(first) != "A" or first.lower() in _NOT_OF_THE_FIRST)
    return f"{first} {MARK}" if apart else MARK


def sizes(match: re.Match[str]) -> str:
    """The dimensions that are known, with the unit."""
    known = [part for part in re.split(r" ?[x×] ?", match.group("dims")) if MARK not in part]
    return " x ".join(known) + match.group("unit") if known else match.group()


def placed(match: re.Match[str]) -> str:
    """A participle before the masked date or name stays where it is the predicate ("was placed by Dr. M")."""
    before = match.string[max(0, match.start() - 12) : match.start()]
    verb = _DONE_BY.match(match.group())
    if verb and re.search(r"\b(?:is|are|was|were|been)$", before):
        return f" {verb.group(1)}{HOLE}"
    return HOLE


def seen(match: re.Match[str]) -> str:
    """A participle stays where it is the predicate: "was incompletely evaluated on M"."""
    before = match.string[max(0, match.start() - 30) : match.start()]
    if match.group()[0] != "," and _PREDICATE.search(before):
        return re.sub(r" (?:also )?(?:on|in|at|from|by|since) .*$", "", match.group()) + HOLE
    return HOLE


def carrier(match: re.Match[str]) -> str:
    """A negation with "sign" or "finding" in the place of its masked noun, and the "of" or "to suggest" that followed."""
    tail = match.group(3)
    one = re.search(r"\b(?:is|was|been) $", match.string[max(0, match.start() - 6) : match.start()])
    word = "sign" if tail in ("of", "for") else "finding"
    return f"{match.group(1)}{match.group(2)} {word}{'' if one else 's'} {tail}"


def marked_only(match: re.Match[str]) -> str:
    """Takes out what may match without a marker, too."""
    return HOLE if MARK in match.group() else match.group()
