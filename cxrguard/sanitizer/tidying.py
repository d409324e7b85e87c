"""What an edit leaves behind: articles, blanks and commas around the holes."""

from __future__ import annotations

import re

# Stands where a rule took something out, so that the tidying knows where to mend.
HOLE = "\ue0fe"

_ARTICLE = re.compile(rf"\b([Aa])n? {HOLE} ?(?=(\w+))")


# "Effusion, seen on M, has": no comma stays between a subject and its verb.
_SUBJECT_COMMA = re.compile(
    rf"^([^,;{HOLE}]{{3,120}}){HOLE} ?, (?=(?:is|are|has|have|was|were|appears?|remains?|shows?|may|could|measures?|ends|terminates)\b)"
)


def tidy(sentence: str) -> str:
    """Mends articles, blanks and commas around holes."""
    sentence = _SUBJECT_COMMA.sub(r"\1 ", sentence)
    sentence = re.sub(rf"\b(is|are|was|were|and|but|that|been){HOLE} ?, ", r"\1 ", sentence)
    sentence = _ARTICLE.sub(lambda m: m.group(1) + ("n " if takes_an(m.group(2)) else " "), sentence).replace(HOLE, " ")
    sentence = re.sub(r"\( ?[,;]? ?\)|\[ ?\]", "", sentence)
    sentence = re.sub(r"\s{2,}", " ", sentence)
    sentence = re.sub(r" (?=[,;:.!?)](?!\d))", "", sentence)
    sentence = re.sub(r",(?= ?[,.;:!?])", "", sentence)
    return sentence.strip(" ,;")


def takes_an(word: str) -> bool:
    """Whether "an" goes before the word."""
    if len(word) == 1 or word.isupper():
        return word[0].upper() in "AEFHILMNORSX8"
    return bool(re.match(r"[aeiou](?!ni[a-z]|ne\b|se)|8|1[18](?!\d)", word, re.IGNORECASE))
