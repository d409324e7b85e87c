"""A user's token list: phrases to take out or to replace, from token attribution.

Only function words may be listed. What carries a fact is refused line by line, and a message never holds the phrase: a list made
from reports is as protected as they are.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.cues.rules import CueRule
from cxrguard.sanitizer.vocabulary import FINDING_STEMS

Row = tuple[int, str, str]  # line, phrase, replacement

_MAX_BYTES, _MAX_PHRASE, _MAX_ROWS = 10_000_000, 80, 10_000
_FACT_WORDS: tuple[tuple[str, str], ...] = (
    (
        "a number",
        r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|single|first|second|third|both|double|multiple|several|few|half)\b",
    ),
    (
        "a side",
        r"\b(?:left|right|bilateral\w*|unilateral\w*|upper|lower|middle|mid|medial|lateral|anterior|posterior|bibasilar|basilar|apical)\b",
    ),
    ("a negation", r"\b(?:no|not|without|neither|nor|never|none|free|absen\w+|den\w+|negative|cannot|resolved)\b|n't\b"),
    (
        "a hedge",
        r"\b(?:may|might|could|can|should|would|possibl\w+|probabl\w+|likely|unlikely|suspicious|suspected|suggest\w*|concern\w*|question\w*|"
        r"versus|vs|or|if|whether|exclude\w*|rule|consider\w*|compatible|consistent|favor\w*|appear\w*|equivocal|perhaps|grossly|otherwise)\b",
    ),
    (
        "a change word",
        r"\b(?:new|newly|stable|unchanged|changed?|improv\w+|wors\w+|increas\w+|decreas\w+|again|interval|persist\w+|progress\w+|still|now|"
        r"since|previous\w*|prior|than|larger|smaller|remain\w*|residual|recurrent|more|less)\b",
    ),
    (
        "a finding",
        rf"{FINDING_STEMS}|abnorm|lesion|tuber|calcif|lung|heart|pleura|tube|catheter",
    ),
)
_FACTS = tuple((what, re.compile(pattern, re.IGNORECASE)) for what, pattern in _FACT_WORDS)
# A class a word: a phrase may only be replaced by one of the same classes at both ends.
_CLASSES: dict[str, str] = {
    word: name
    for name, words in {
        "determiner": "the this these those that a an",
        "preposition": "of in within at on by for from to with into over along throughout during through upon",
        "adverb": "also additionally moreover furthermore overall therefore thus however currently here there well very please",
        "time": "time today presently",
        "conjunction": "and while whereas as",
    }.items()
    for word in words.split()
}
_LEADING = frozenset({"the", "these", "this", "those"})


def load_token_list(path: Path) -> tuple[tuple[CueRule, ...], tuple[str, ...]]:
    """Reads a list.

    Returns:
        The rules, longest phrase first, and a message for each line that may not be used.

    Raises:
        CxrguardError: If the file is missing, not readable as what its ending says, or empty.

    """
    rows = _rows(path)
    rules: list[tuple[int, CueRule]] = []
    refused = []
    for line, phrase, replacement in rows:
        reason = _reason(phrase, replacement)
        if reason:
            refused.append(f"{path.name}, line {line}: the phrase {reason}, and is never touched. Take the line out.")
        else:
            rules.append((len(phrase), _rule(line, phrase, replacement)))
    ordered = sorted(rules, key=lambda pair: -pair[0])
    return tuple(rule for _, rule in ordered), tuple(refused)


def _rows(path: Path) -> list[Row]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise CxrguardError(f"Unknown cue source: known are off, canonicalize, or a file ending in {', '.join(_READERS)}.")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise CxrguardError(f"{path.name} is larger than {_MAX_BYTES // 1_000_000} MB: a cue list holds a phrase a line.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError:
        raise CxrguardError(f"The cue list {path.name} cannot be read: check that the file exists and may be read.") from None
    except UnicodeDecodeError:
        raise CxrguardError(f"{path.name} is not UTF-8 text: save the cue list as UTF-8.") from None
    rows = [(line, " ".join(phrase.split()), " ".join(new.split())) for line, phrase, new in reader(text, path.name) if phrase.strip()]
    if not rows:
        raise CxrguardError(f"{path.name} holds no phrase: a cue list has at least one.")
    if len(rows) > _MAX_ROWS:
        raise CxrguardError(f"{path.name} holds {len(rows)} phrases: at most {_MAX_ROWS} are taken; keep those that score highest.")
    return rows


def _read_txt(text: str, name: str) -> Iterator[Row]:
    for line, row in enumerate(text.split("\n"), 1):
        phrase, _, replacement = row.rstrip("\r").partition("\t")
        if not phrase.startswith("#"):
            yield line, phrase, replacement


def _read_csv(text: str, name: str) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        columns = reader.fieldnames or []
        if not {"word", "token"} & set(columns):
            raise CxrguardError(f"{name}, line 1: no column 'word' or 'token'.")
        for row in reader:
            yield _fields(row, name, reader.line_num)
    except csv.Error:
        raise CxrguardError(f"{name}, line {reader.line_num}: not valid CSV.") from None


def _read_jsonl(text: str, name: str) -> Iterator[Row]:
    for line, row in enumerate(text.split("\n"), 1):
        if row.strip():
            yield _fields(_json(row, name, line), name, line)


def _read_json(text: str, name: str) -> Iterator[Row]:
    entries = _json(text, name, 1)
    if not isinstance(entries, list):
        raise CxrguardError(f"{name}: expected a list of phrases or of objects with 'word' or 'token'.")
    for i, entry in enumerate(entries, 1):
        yield _fields(entry, name, i)


def _json(text: str, name: str, line: int) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        at = error.lineno + line - 1 if isinstance(error, json.JSONDecodeError) else line
        raise CxrguardError(f"{name}, line {at}: not valid JSON.") from None


def _fields(entry: object, name: str, line: int) -> Row:
    if isinstance(entry, str):
        return line, entry, ""
    if isinstance(entry, dict):
        phrase = entry.get("word") if entry.get("word") is not None else entry.get("token")
        new = entry.get("replacement")
        if isinstance(phrase, str) and (new is None or isinstance(new, str)):
            return line, phrase, new or ""
    raise CxrguardError(f"{name}, line {line}: expected a phrase, or 'word' or 'token' and perhaps 'replacement', as text.")


_READERS: dict[str, Callable[[str, str], Iterator[Row]]] = {
    ".txt": _read_txt,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".json": _read_json,
}


def _reason(phrase: str, replacement: str) -> str | None:
    """Why a phrase may not be listed; None if it may."""
    if len(phrase) > _MAX_PHRASE or len(replacement) > _MAX_PHRASE:
        return f"is longer than {_MAX_PHRASE} characters"
    for text, where in ((phrase, "holds"), (replacement, "has a replacement that holds")):
        for what, pattern in _FACTS:
            if pattern.search(text):
                return f"{where} {what}"
        if not all(word in _CLASSES for word in text.lower().split()):
            return f"{where} a word that is no function word"
    return _misfit(phrase.lower().split(), replacement.lower().split())


def _misfit(old: list[str], new: list[str]) -> str | None:
    classes = [_CLASSES[word] for word in old]
    if new:
        fits = classes[0] == _CLASSES[new[0]] and classes[-1] == _CLASSES[new[-1]]
        return None if fits else "has a replacement of another word class"
    whole = set(classes) == {"adverb"} or (classes[0] == "preposition" and classes[-1] == "time") or (len(old) == 1 and old[0] in _LEADING)
    return None if whole and "there" not in old else "leaves no grammatical sentence when it is taken out"


def _rule(line: int, phrase: str, replacement: str) -> CueRule:
    words = r"\s{1,3}".join(re.escape(word) for word in phrase.split())
    name = f"cue_list_{line}"
    if not replacement and phrase.lower() in _LEADING:
        # Only a sentence's first article can go: "Heart is normal." is how radiologists write.
        return CueRule(
            name, re.compile(rf"^{words}\s(?=[a-z]{{2,30}}\b(?!\s(?:of|is|are|was|were)\b.{{0,3}}$))", re.IGNORECASE), "", _NOT_A_NOUN
        )
    if not replacement:
        aside = rf"(?:^{words},?\s|,\s{words}(?=[,.;])|\s{words}(?=[.;]?$))"
        return CueRule(name, re.compile(aside, re.IGNORECASE), "")
    # \1 and the like are no part of a replacement: function words hold no backslash.
    return CueRule(name, re.compile(rf"(?<![\w'-]){words}(?![\w'-])", re.IGNORECASE), replacement)


_NOT_A_NOUN = re.compile(
    r"^\w{2,6}\s(?:is|are|was|were|has|have|may|can|could|would|should|do|does|represents?|of|in|and)\b", re.IGNORECASE
)
