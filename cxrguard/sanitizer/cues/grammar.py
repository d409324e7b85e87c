"""Mends a sentence after a rewriting, or says that it cannot be mended."""

from __future__ import annotations

import re

from cxrguard.sanitizer.tidying import takes_an

_ARTICLE = re.compile(r"\b(a)n? (?=([a-z][\w-]*))", re.IGNORECASE)
_FUNCTION = r"(?:of|in|with|to|at|on|by|for|from|the|an?|and|or|nor|is|are|was|were|as|within)"
_BROKEN = re.compile(
    rf"\b{_FUNCTION}\s*[.,;]|,\s*[,.;]|^\W|\b(?:the|an?) (?:of|in|with|to|at|on|by|for|from|the|an?|and|or|is|are|was|were)\b"
    r"|\b(\w{1,20}) \1\b|\bnormal(?:,| and|,? or)? normal\b|\(\s*\)|\bno an?\b",
    re.IGNORECASE,
)


def mend(sentence: str, before: str) -> str | None:
    """Capital, articles and blanks put right.

    Args:
        sentence: As a rule left it.
        before: As it was: what it already had of defects is not held against the rule.

    Returns:
        The sentence, or None if it would not be grammatical.

    """
    new = re.sub(r" {2,}", " ", sentence)
    # What stood first no longer does.
    new = re.sub(r"(?<=^There is )An?\b", lambda m: m.group().lower(), new)
    new = re.sub(r" +([.,;:!?])", r"\1", new).strip(" ,")
    new = _ARTICLE.sub(_article, new) if _articles(new) != _articles(before) else new
    if before[:1].isupper():
        new = new[:1].upper() + new[1:]
    if not re.search(r"[^\W\d_]", new) or len(_BROKEN.findall(new)) > len(_BROKEN.findall(before)):
        return None
    return new


def _articles(sentence: str) -> list[str]:
    return [m.group().lower() + m.group(2).lower() for m in _ARTICLE.finditer(sentence)]


def _article(match: re.Match[str]) -> str:
    word = match.group(2)
    # "an MRI", "a UTI": what is spelled letter by letter keeps the article it came with.
    if word.isupper():
        return match.group()
    return match.group(1) + ("n " if takes_an(word) else " ")
