"""Words that are nobody's: those of the project's own lists. A name is in none of them, however many patients' reports have it."""

from __future__ import annotations

import re
from functools import cache

from cxrguard.data import prompt_form
from cxrguard.sanitizer import vocabulary
from cxrguard.sanitizer.fact_check.lexicon import LEXICON

_STEM = re.compile(rf"(?:{vocabulary.FINDING_STEMS})[a-z]*(?:-[a-z]+)?")
_LETTERS = re.compile(r"[a-z][a-z'/-]*")
_FILMS = "pa ap lateral frontal portable upright supine chest heart lung lungs pleural hilar mediastinal mediastinum contours silhouette"


@cache
def _listed() -> frozenset[str]:
    lists = [words for words in vars(vocabulary).values() if isinstance(words, frozenset)]
    planted = " ".join((*prompt_form.LEADS, *prompt_form.CLINICAL_TAILS, "note findings impression")).lower()
    own = {*prompt_form.QUALITIES, *prompt_form.STRUCTURES, *prompt_form.PLACES, *_LETTERS.findall(planted)}
    return frozenset(LEXICON).union(own, _FILMS.split(), *lists)


def is_known(word: str) -> bool:
    """Whether a lower-case word is an ordinary one of chest X-ray reports; one with a digit may be a number of somebody's and is none."""
    return bool(_LETTERS.fullmatch(word)) and (word in _listed() or _STEM.fullmatch(word) is not None)
