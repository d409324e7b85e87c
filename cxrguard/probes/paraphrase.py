"""Says a radiology prompt in other words: a small table of words that mean the same. Never a finding more or less."""

from __future__ import annotations

import re

from cxrguard.probes.words import Span, check_spans

# Whole words, any case. Only what a radiologist would read as the same; severity, side, number, certainty and negation stay.
SYNONYMS: dict[str, str] = {
    "chest radiograph": "radiograph of the chest",
    "chest x-ray": "x-ray of the chest",
    "chest radiographs": "radiographs of the chest",
    "radiograph": "x-ray film",
    "pa view": "posteroanterior view",
    "ap view": "anteroposterior view",
    "frontal view": "frontal projection",
    "lateral view": "lateral projection",
    "portable": "bedside",
    "cardiac silhouette": "heart silhouette",
    "heart size": "cardiac size",
    "cardiac size": "heart size",
    "cardiomegaly": "cardiac enlargement",
    "pleural effusion": "pleural fluid collection",
    "pleural effusions": "pleural fluid collections",
    "opacity": "opacification",
    "vertebral column": "spine",
    "no evidence of": "no sign of",
    "no signs of": "no evidence of",
    "no sign of": "no evidence of",
    "unchanged": "stable",
    "stable": "unchanged",
    "demonstrates": "shows",
    "shows": "demonstrates",
    "is seen": "is visible",
    "are seen": "are visible",
    "consistent with": "in keeping with",
    "compatible with": "in keeping with",
    "mild": "slight",
    "woman": "female patient",
    "man": "male patient",
}
_PHRASES = sorted(SYNONYMS, key=len, reverse=True)
_ANY = re.compile(r"(?<![\w-])(?:" + "|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in _PHRASES) + r")(?![\w-])", re.I)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def paraphrase(prompt: str, keep: tuple[Span, ...] = ()) -> str | None:
    """``prompt`` with every phrase of :data:`SYNONYMS` replaced; where there is none, its last sentence first; else None.

    Args:
        prompt: any.
        keep: spans (markers) whose characters stay as they are.

    """
    pieces, done = [], 0
    for start, end in check_spans(prompt, keep):
        pieces += [_ANY.sub(_replacement, prompt[done:start]), prompt[start:end]]
        done = end
    said = "".join(pieces) + _ANY.sub(_replacement, prompt[done:])
    return said if said != prompt else _last_sentence_first(prompt)


def _replacement(match: re.Match[str]) -> str:
    said = SYNONYMS[" ".join(match[0].lower().split())]
    return said[0].upper() + said[1:] if match[0][0].isupper() else said


def _last_sentence_first(prompt: str) -> str | None:
    sentences = _SENTENCE_END.split(prompt.strip())
    if len(sentences) < 2:
        return None
    turned = " ".join([sentences[-1], *sentences[:-1]])
    return turned if turned != prompt else None
