"""Marker conventions: what a de-identification marker looks like, one YAML each under ``conventions/`` or the user's own."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import regex  # type: ignore[import-untyped]
import yaml

from cxrguard.errors import CxrguardError

# Stands for one marker while a text is repaired. Private use: no report has it, and if one does it is treated as a
# marker, which is the safe side.
MARK = "\ue0ff"
AUTO = "auto"
_FOLDER = files("cxrguard.sanitizer") / "conventions"

# A user's pattern is given this long a text; a shipped one is linear and needs no clock.
_SECONDS, _SECONDS_A_CHARACTER = 0.5, 1e-6
_PROBE_LENGTH, _PROBE_SECONDS = 10_000, 0.25
_PROBES = ("_", "_ ", "[**", "**]", "x", "X", " ", "\n", "a", "a ", "a.", "[", "<", "*", "1", "1/", "#", "Dr. ")
_REMEDY = "Bound the repetitions ({0,80} for * and +) and put no repetition inside another one."
_MAX_PATTERN = 20_000
# No marker pattern may take any of these for one; the user's own are refused if they do.
_PLAIN = (
    "No acute cardiopulmonary abnormality. The heart size is normal, and the lungs are clear.",
    "PA and lateral views of the chest were obtained. Stable 3.2 x 4 cm mass in the right upper lobe, T11/12, L4-5, 1/2.",
    "FINDINGS: There is no pneumothorax (tension or other); a left-sided pacemaker's lead is unchanged.",
    "1. Mild interstitial edema, 50% larger than before.\n2. Right PICC with its tip 2 cm below the carina?",
)
_KEYS = {"name": str, "description": str, "opt_in": bool, "hints": list, "parts": dict, "markers": (list, dict), "examples": list}
_PART = re.compile(r"\(\?&(\w+)\)")
_FLAGS = re.compile(r"\(\?([aimsx]+)\)")


@dataclass(frozen=True)
class Convention:
    """How one data set marks what was taken out.

    Attributes:
        name: The YAML file's name.
        description: One or two sentences for people.
        pattern: Matches one whole marker; linear in the length of the text unless ``timed``.
        examples: Pairs (before, after) that the contract test runs.
        hints: A text that holds none of these holds no marker; empty if nothing is known. They make clean texts cheap.
        opt_in: Not part of ``auto``.
        timed: The pattern is a user's and runs against a clock.

    """

    name: str
    description: str
    pattern: re.Pattern[str]
    examples: tuple[tuple[str, str], ...]
    hints: tuple[str, ...] = ()
    opt_in: bool = False
    timed: bool = False

    @cached_property
    def ascii_hints(self) -> tuple[str, ...]:
        """The hints that an ASCII text can hold; Python knows of a text whether it is one."""
        return tuple(hint for hint in self.hints if hint.isascii())

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Start and end of each match.

        Raises:
            CxrguardError: If a user's pattern takes too long.

        """
        if not self.timed:
            return [m.span() for m in self.pattern.finditer(text)]
        try:
            return list(_timed_spans(self.pattern, text, _SECONDS + _SECONDS_A_CHARACTER * len(text)))
        except TimeoutError:
            raise CxrguardError(f"Marker convention {self.name!r}: ran out of time on {len(text)} characters. {_REMEDY}") from None


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
    """Names of the shipped conventions, sorted; ``auto`` stands for those of them that are not opt-in."""
    return sorted(f.name.removesuffix(".yaml") for f in _FOLDER.iterdir() if f.name.endswith(".yaml"))


def load_convention(name: str) -> Convention:
    """Loads one convention.

    Args:
        name: A shipped one's name, or the path of a user's own file (``*.yaml``, ``*.yml``).

    Raises:
        CxrguardError: If there is none of that name, the message then lists those there are; or if a file cannot be used,
            the message then names the file and the key.

    """
    if name in known_conventions():
        return _load_shipped(name)
    if name.endswith((".yaml", ".yml")):
        return _load_own(Path(name))
    known = ", ".join([AUTO, *known_conventions()])
    raise CxrguardError(f"Unknown marker convention {name!r}: known are {known}, or the path of a .yaml file.")


def load_conventions(names: Sequence[str]) -> tuple[Convention, ...]:
    """Loads several, each once; ``auto`` is all shipped ones that are not opt-in. See :func:`load_convention`."""
    found: dict[str, Convention] = {}
    for name in [names] if isinstance(names, str) else names:
        if name == AUTO:
            found |= {each: c for each in known_conventions() if not (c := _load_shipped(each)).opt_in}
        else:
            convention = load_convention(name)
            found[convention.name] = convention
    return tuple(found.values())


@lru_cache
def _load_shipped(name: str) -> Convention:
    raw = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return _build(raw, f"{name}.yaml", own=False)


def _load_own(path: Path) -> Convention:
    where = f"Convention file {str(path)!r}"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CxrguardError(f"{where} cannot be read ({type(error).__name__}); give the path of a YAML file in UTF-8.") from None
    except yaml.YAMLError:
        raise CxrguardError(f"{where} is no valid YAML; put patterns in single quotes.") from None
    return _build(raw, where, own=True)


def _build(raw: Any, where: str, *, own: bool) -> Convention:
    _check_keys(raw, where)
    if own and raw["name"] in (AUTO, *known_conventions()):
        raise CxrguardError(f"{where}: name: {raw['name']!r} is a shipped convention's; choose another one.")
    patterns = _patterns(raw, where)
    if own:
        for key, pattern in patterns.items():
            _check_pattern(_compile(pattern, f"{where}: {key}", own), pattern, f"{where}: {key}")
    compiled = _compile("|".join(patterns.values()), f"{where}: markers", own)
    examples = tuple((str(e["before"]), str(e["after"])) for e in raw.get("examples", []))
    hints, opt_in = tuple(raw.get("hints", ())), raw.get("opt_in", False)
    convention = Convention(raw["name"], raw.get("description", ""), compiled, examples, hints, opt_in, timed=own)
    if own:
        _check_examples(convention, where)
    return convention


def _check_keys(raw: Any, where: str) -> None:
    if not isinstance(raw, dict):
        raise CxrguardError(f"{where} must hold the keys name and markers; known keys are {', '.join(_KEYS)}.")
    for key, value in raw.items():
        if key not in _KEYS:
            raise CxrguardError(f"{where}: {key}: unknown key; known are {', '.join(_KEYS)}.")
        if not isinstance(value, _KEYS[key]):  # type: ignore[arg-type]
            raise CxrguardError(f"{where}: {key}: has the wrong type ({type(value).__name__}).")
    for key in ("name", "markers"):
        if not raw.get(key):
            raise CxrguardError(f"{where}: {key}: is missing or empty.")
    if not all(isinstance(hint, str) and hint for hint in raw.get("hints", [])):
        raise CxrguardError(f"{where}: hints: must be a list of strings, none of them empty.")
    for i, example in enumerate(raw.get("examples", [])):
        if not isinstance(example, dict) or not all(isinstance(example.get(key), str) for key in ("before", "after")):
            raise CxrguardError(f"{where}: examples[{i}]: must hold the texts before and after.")


def _patterns(raw: dict[str, Any], where: str) -> dict[str, str]:
    """The patterns by their place in the file, each ``(?&part)`` written out and safe to join with ``|``."""
    parts: dict[str, str] = {}
    for name, part in raw.get("parts", {}).items():
        parts[name] = _write_out("|".join(map(str, part)) if isinstance(part, list) else str(part), parts, f"{where}: parts.{name}")
    markers = raw["markers"]
    places = enumerate(markers) if isinstance(markers, list) else markers.items()
    return {f"markers.{key}": _write_out(marker, parts, f"{where}: markers.{key}") for key, marker in places}


def _write_out(pattern: Any, parts: dict[str, str], where: str) -> str:
    if not isinstance(pattern, str) or not pattern:
        raise CxrguardError(f"{where}: must be a regular expression in quotes.")
    if unknown := [name for name in _PART.findall(pattern) if name not in parts]:
        raise CxrguardError(f"{where}: (?&{unknown[0]}) is no part defined above it.")
    if re.search(r"(?<!\\)\\[1-9]", pattern):
        raise CxrguardError(f"{where}: a numbered group cannot be referred to; name it, (?P<x>...) and (?P=x).")
    pattern = _PART.sub(lambda m: parts[m[1]], pattern)
    if len(pattern) > _MAX_PATTERN:
        raise CxrguardError(f"{where}: has over {_MAX_PATTERN} characters when its parts are written out.")
    # Global flags would hold for the other patterns too.
    flags = _FLAGS.match(pattern)
    rest = pattern[flags.end() :] + ("\n" if "x" in flags[1] else "") if flags else pattern
    return f"(?{flags[1] if flags else ''}:{rest})"


def _compile(pattern: str, where: str, own: bool) -> re.Pattern[str]:
    try:
        return regex.compile(pattern) if own else re.compile(pattern)  # type: ignore[no-any-return]
    except (regex.error, re.error, RecursionError, OverflowError) as error:
        raise CxrguardError(f"{where}: is no valid regular expression ({type(error).__name__}: {error}).") from None


def _check_pattern(compiled: re.Pattern[str], source: str, where: str) -> None:
    """Refuses what matches nothing at all, ordinary text, or takes too long on hostile text."""
    if compiled.match(""):
        raise CxrguardError(f"{where}: matches the empty string; ask for at least one character.")
    units = dict.fromkeys([*_PROBES, *sorted(set(source))[:80]])
    try:
        for text in [*_PLAIN, *(unit * (_PROBE_LENGTH // len(unit)) + "\x00" for unit in units)]:
            if list(_timed_spans(compiled, text, _PROBE_SECONDS, empty=True)) and text in _PLAIN:
                raise CxrguardError(f"{where}: matches ordinary report text without any marker; make it narrower.")
    except TimeoutError:
        raise CxrguardError(f"{where}: takes too long on a run of {_PROBE_LENGTH} characters. {_REMEDY}") from None


def _check_examples(convention: Convention, where: str) -> None:
    for i, (before, after) in enumerate(convention.examples):
        if (before != after) != has_marker(before, [convention]) or has_marker(after, [convention]):
            raise CxrguardError(f"{where}: examples[{i}]: 'before' must hold a marker (unless nothing changes), 'after' none.")


def _timed_spans(pattern: Any, text: str, seconds: float, *, empty: bool = False) -> Iterator[tuple[int, int]]:
    return (m.span() for m in pattern.finditer(text, timeout=seconds) if empty or m.end() > m.start())


def _may_match(convention: Convention, text: str, ascii_only: bool) -> bool:
    if not convention.hints:
        return True
    # A loop, since any() with a generator takes as long as the search itself.
    for hint in convention.ascii_hints if ascii_only else convention.hints:  # noqa: SIM110
        if hint in text:
            return True
    return False


def has_marker(text: str, conventions: Sequence[Convention]) -> bool:
    """Whether a text holds a marker; fast where it holds none."""
    ascii_only = text.isascii()
    for c in conventions:  # noqa: SIM110 (a generator is slower)
        if _may_match(c, text, ascii_only) and (c.spans(text) if c.timed else c.pattern.search(text)):
            return True
    return False


def find_markers(text: str, conventions: Sequence[Convention]) -> list[tuple[int, int]]:
    """Start and end of every marker, in order; markers that overlap or touch are one."""
    ascii_only = text.isascii()
    found: list[tuple[int, int]] = []
    for convention in conventions:
        if _may_match(convention, text, ascii_only):
            found += convention.spans(text)
    merged: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def residual_markers(text: str, conventions: Sequence[Convention]) -> int:
    """Number of markers in a text; 0 is what may enter a batch."""
    return len(find_markers(text, conventions))


def counts(text: str, conventions: Sequence[Convention]) -> dict[str, int]:
    """Number of markers by convention; one that two conventions know counts for each."""
    return {convention.name: residual_markers(text, [convention]) for convention in conventions}


def collapse(text: str, conventions: Sequence[Convention], mark: str | None = MARK) -> Collapsed:
    """Shortens every marker.

    Args:
        text: Any text.
        conventions: What counts as a marker.
        mark: Replaces each marker; None keeps the first four characters of those that are markers by these alone.

    Returns:
        The shortened text with its offsets.

    """
    parts: list[str] = []
    short: list[tuple[int, int]] = []
    spans = find_markers(text, conventions)
    done = length = 0
    for start, end in spans:
        new = mark if mark is not None else _shorten(text[start:end], conventions)
        length += start - done
        parts += [text[done:start], new]
        short.append((length, length + len(new)))
        length += len(new)
        done = end
    return Collapsed("".join(parts) + text[done:], tuple(spans), tuple(short))


def _shorten(marker: str, conventions: Sequence[Convention]) -> str:
    head = marker[:4].rstrip()
    return head if find_markers(head, conventions) == [(0, len(head))] else marker
