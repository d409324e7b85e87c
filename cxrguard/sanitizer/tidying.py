"""What an edit leaves behind: articles, blanks and commas around the holes."""

from __future__ import annotations

import re

# Stands where a rule took something out, so that the tidying knows where to mend.
HOLE = "\ue0fe"

# "A unit", "a usual", "a ureter", "a euthymic", but "an unusual", "an unimpressive"; "a one-sided"; "an 8 mm", "an 11 mm".
_VOWEL = re.compile(r"(?!one\b|once\b|eu|u(?:ni(?![mn]|dent)|[bcrst][aeiou]))[aeiou]|8|1[18](?!\d)", re.IGNORECASE)
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
    """Whether "an" and not "a" goes before the word; of one in capitals by its letters ("an MRI")."""
    if len(word) == 1 or word.isupper():
        return word[0].upper() in "AEFHILMNORSX8"
    return _VOWEL.match(word) is not None
