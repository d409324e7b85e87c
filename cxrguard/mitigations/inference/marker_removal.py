"""De-identification markers taken out, and nothing repaired."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cxrguard.mitigations.inference.base import InferenceMitigation, Vocabulary
from cxrguard.sanitizer.conventions import AUTO, find_markers, load_conventions

_AGAIN = re.compile(r"[ \t]{2,}")


class MarkerRemoval(InferenceMitigation):
    """p → p without its markers (``___``, ``XXXX``, ``[**…**]``); the plain baseline to :class:`.sanitizing.Sanitizing`.

    After Dutt et al. 2025 (arXiv 2502.07516), who found marked prompts among the most memorized. What is left may not be English ("the
    study of ,"), and may say something else: use the sanitizer for prompts that are to be trained on. A prompt of nothing but markers is
    withheld. Spaces that meet become one. No evaluations.

    Args:
        conventions: names of marker conventions; ``auto`` for all but surrogates.

    """

    name = "marker_removal"
    acts_on = ("prompt",)

    def __init__(self, conventions: Sequence[str] = (AUTO,)) -> None:
        self._conventions = load_conventions(list(conventions))

    def rewrite(self, prompts: Sequence[str], seed: int, vocabulary: Vocabulary) -> list[str | None]:
        """See :meth:`InferenceMitigation.rewrite`."""
        return [self._without(prompt) for prompt in prompts]

    def _without(self, prompt: str) -> str | None:
        spans = find_markers(prompt, self._conventions)
        if not spans:
            return prompt
        edges = [0, *(edge for span in spans for edge in span), len(prompt)]
        kept = "".join(prompt[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True))
        return _AGAIN.sub(" ", kept).strip() or None
