"""The project's own sanitizer in front of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from cxrguard.mitigations.inference.base import InferenceMitigation, Vocabulary


class Sanitizes(Protocol):
    """:class:`cxrguard.sanitizer.sanitizer.PromptSanitizer`, or another that gives ``prompts``, ``""`` where it has none."""

    def sanitize(self, prompts: Sequence[str]) -> Any:
        """Something with the attribute ``prompts``."""
        ...


class Sanitizing(InferenceMitigation):
    """p → the sanitized p: markers out, grammar repaired, no clinical fact changed (this project).

    A prompt that is refused, or of which nothing is left, is withheld: there is no safe prompt to generate from. No evaluations.

    Args:
        sanitizer: see :class:`Sanitizes`.

    """

    name = "sanitizer"
    acts_on = ("prompt",)

    def __init__(self, sanitizer: Sanitizes) -> None:
        self._sanitizer = sanitizer

    def rewrite(self, prompts: Sequence[str], seed: int, vocabulary: Vocabulary) -> list[str | None]:
        """See :meth:`InferenceMitigation.rewrite`."""
        return [text if text.strip() else None for text in self._sanitizer.sanitize(list(prompts)).prompts]
