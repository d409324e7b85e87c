"""Marker conventions: what a de-identification marker looks like, one YAML each under ``conventions/``."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import yaml

from cxrguard.errors import CxrguardError

# Stands for one marker while a text is repaired. Private use: no report has it, and if one does it is treated as a
# marker, which is the safe side.
MARK = "\ue0ff"


@dataclass(frozen=True)
class Convention:
    """How one data set marks what was taken out.

    Attributes:
        name: The YAML file's name.
        description: One or two sentences for people.
        pattern: Matches one whole marker; linear in the length of the text.
        examples: Pairs (before, after) that the contract test runs.

    """

    name: str
    description: str
    pattern: re.Pattern[str]
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Collapsed:
    """A text whose markers were shortened, and the way back to the offsets of the original.

    Attributes:
        text: The shortened text.
        spans: Start and end of each marker in the original, in order, not overlapping.
        short: Start and end of each marker in ``text``.

    """

    text: str
    spans: tuple[tuple[int, int], ...]
    short: tuple[tuple[int, int], ...]

    def to_original(self, position: int, *, end: bool = False) -> int:
        """Maps an offset of ``text`` to the original.

        Args:
            position: Offset into ``text``.
            end: The offset is the end of a span; inside a marker it then maps to the marker's end.

        """
        i = bisect_right(self.short, (position, -1 if end else len(self.text) + 1)) - 1
        if i < 0:
            return position
        if position < self.short[i][1]:
            return self.spans[i][1 if end else 0]
        return self.spans[i][1] + position - self.short[i][1]


def known_conventions() -> list[str]:
    """Names that :func:`load_convention` accepts, sorted."""
    folder = files("cxrguard.sanitizer") / "conventions"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


@lru_cache
def load_convention(name: str) -> Convention:
    """Loads a convention by name.

    Raises:
        CxrguardError: If there is none of that name; the message lists those there are.

    """
    if name not in known_conventions():
        raise CxrguardError(f"Unknown marker convention {name!r}: known are {', '.join(known_conventions())}.")
    raw = yaml.safe_load((files("cxrguard.sanitizer") / "conventions" / f"{name}.yaml").read_text(encoding="utf-8"))
    pattern = re.compile("|".join(f"(?:{marker})" for marker in raw["markers"]))
    examples = tuple((example["before"], example["after"]) for example in raw["examples"])
    return Convention(raw["name"], raw["description"], pattern, examples)


def load_conventions(names: Sequence[str]) -> tuple[Convention, ...]:
    """Loads several; see :func:`load_convention`."""
    return tuple(load_convention(name) for name in names)


def find_markers(text: str, conventions: Sequence[Convention]) -> list[tuple[int, int]]:
    """Start and end of every marker, in order; markers that overlap or touch are one."""
    found = sorted(m.span() for convention in conventions for m in convention.pattern.finditer(text))
    merged: list[tuple[int, int]] = []
    for start, end in found:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def residual_markers(text: str, conventions: Sequence[Convention]) -> int:
    """Number of markers in a text; 0 is what may enter a batch."""
    return len(find_markers(text, conventions))


def collapse(text: str, conventions: Sequence[Convention], mark: str | None = MARK) -> Collapsed:
    """Shortens every marker.

    Args:
        text: Any text.
        conventions: What counts as a marker.
        mark: Replaces each marker; None keeps its first four characters, so that it is still one of its convention.

    Returns:
        The shortened text with its offsets.

    """
    parts: list[str] = []
    short: list[tuple[int, int]] = []
    spans = find_markers(text, conventions)
    done = length = 0
    for start, end in spans:
        new = mark if mark is not None else text[start:end][:4].rstrip()
        length += start - done
        parts += [text[done:start], new]
        short.append((length, length + len(new)))
        length += len(new)
        done = end
    return Collapsed("".join(parts) + text[done:], tuple(spans), tuple(short))
