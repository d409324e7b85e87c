"""Marker conventions: one YAML file each under ``conventions/``, or the user's own. How markers are found is in :mod:`.markers`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import regex  # type: ignore[import-untyped]
import yaml

from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.markers import (
    MARK,
    REMEDY,
    Collapsed,
    Convention,
    collapse,
    counts,
    find_markers,
    has_marker,
    residual_markers,
    timed_spans,
)

__all__ = [
    "AUTO",
    "MARK",
    "Collapsed",
    "Convention",
    "collapse",
    "counts",
    "find_markers",
    "has_marker",
    "known_conventions",
    "load_convention",
    "load_conventions",
    "residual_markers",
]

AUTO = "auto"
_FOLDER = files("cxrguard.sanitizer") / "conventions"

_PROBE_LENGTH, _PROBE_SECONDS = 10_000, 0.25
_PROBES = ("_", "_ ", "[**", "**]", "x", "X", " ", "\n", "a", "a ", "a.", "[", "<", "*", "1", "1/", "#", "Dr. ")
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
            if list(timed_spans(compiled, text, _PROBE_SECONDS, empty=True)) and text in _PLAIN:
                raise CxrguardError(f"{where}: matches ordinary report text without any marker; make it narrower.")
    except TimeoutError:
        raise CxrguardError(f"{where}: takes too long on a run of {_PROBE_LENGTH} characters. {REMEDY}") from None


def _check_examples(convention: Convention, where: str) -> None:
    for i, (before, after) in enumerate(convention.examples):
        if (before != after) != has_marker(before, [convention]) or has_marker(after, [convention]):
            raise CxrguardError(f"{where}: examples[{i}]: 'before' must hold a marker (unless nothing changes), 'after' none.")
