"""What readers ask of their settings, with one message for what is missing or misspelt; and which section is the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cxrguard.errors import BadInputError

PROMPTS = ("impression", "findings", "both")


def data_root(root: str, example: str, holds: str) -> Path:
    """``data.root`` as an existing directory.

    Args:
        root: as configured.
        example: the last part of a path to show, e.g. ``padchest``.
        holds: what lies in it.

    Raises:
        BadInputError: it is empty or no directory.

    """
    if not root:
        raise BadInputError(f"No data directory is given. Set data.root=/path/to/{example} (it holds {holds}).")
    directory = Path(root).expanduser()
    if not directory.is_dir():
        raise BadInputError(f"{directory}: there is no such directory. Set data.root to the one that holds {holds}.")
    return directory


def some_of(key: str, asked: Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...] | None:
    """A setting that names some of ``known``, or None for all.

    Raises:
        BadInputError: it names nothing, or something else.

    """
    if asked is None:
        return None
    chosen = (asked,) if isinstance(asked, str) else tuple(asked)
    if not chosen or not set(chosen) <= set(known):
        raise BadInputError(f"{key} must be some of {', '.join(known)}, or null for all.")
    return chosen


def one_of(key: str, asked: str, known: Sequence[str]) -> str:
    """A setting that names one of ``known``.

    Raises:
        BadInputError: it does not.

    """
    if asked not in known:
        raise BadInputError(f"{key} must be one of {', '.join(known)}.")
    return asked


def section_prompt(prompt: str, findings: str, impression: str) -> str:
    """The text to train on among a report's sections; "" only if both are empty.

    Args:
        prompt: ``impression`` (else the findings), ``findings`` (else the impression), or ``both``: findings, then impression, a line
            each, so that the sanitizer sees two sentences.
        findings: the section's text, may be empty.
        impression: likewise.

    """
    if prompt == "both":
        return "\n".join(text for text in (findings, impression) if text)
    return (findings or impression) if prompt == "findings" else (impression or findings)
