"""Cue rules as data, and how one is applied."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import yaml

_GAP = r"(?:[ \t]{1,3}|[ \t]?\n[ \t]{0,8})"


@dataclass(frozen=True)
class CueRule:
    """A rewriting.

    Attributes:
        name: Goes into the edit record; never text of a report.
        find: What is replaced.
        replace: By what.
        unless: Leaves a sentence alone in which this is found.
        examples: Pairs (before, after) that the tests run.

    """

    name: str
    find: re.Pattern[str]
    replace: str
    unless: re.Pattern[str] | None = None
    examples: tuple[tuple[str, str], ...] = ()

    def apply(self, sentence: str) -> str:
        """The sentence with every place rewritten; its grammar is not mended yet."""
        if not self.find.search(sentence) or (self.unless and self.unless.search(sentence)):
            return sentence
        return self.find.sub(self.replace, sentence)


@lru_cache(maxsize=1)
def canonical_rules() -> tuple[CueRule, ...]:
    """The table of ``canonicalize.yaml``, in its order."""
    raw = yaml.safe_load((files("cxrguard.sanitizer.cues") / "canonicalize.yaml").read_text(encoding="utf-8"))
    return tuple(_rule(entry) for entry in raw)


def _rule(entry: dict[str, str | list[dict[str, str]]]) -> CueRule:
    examples = tuple((example["before"], example["after"]) for example in entry["examples"] if isinstance(example, dict))
    unless = re.compile(str(entry["unless"]), re.IGNORECASE | re.DOTALL) if "unless" in entry else None
    return CueRule(str(entry["name"]), _compile(str(entry["find"])), str(entry["replace"]), unless, examples)


def _compile(pattern: str) -> re.Pattern[str]:
    # Look-behinds need a fixed width: only blanks outside them may be a line break.
    parts = re.split(r"(\(\?<[!=][^)]*\))", pattern)
    return re.compile("".join(p if p.startswith("(?<") else p.replace(" ", _GAP) for p in parts), re.IGNORECASE)
