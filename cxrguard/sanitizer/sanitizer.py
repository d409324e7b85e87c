"""The object that the configuration builds: prompts in, sanitized prompts and counts out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import spacy

from cxrguard.errors import ResidualMarkerError
from cxrguard.sanitizer.component import create_deid_sanitizer  # noqa: F401  (registers the factory without the entry point)
from cxrguard.sanitizer.conventions import Collapsed, collapse, load_conventions, residual_markers
from cxrguard.sanitizer.pipeline import Sanitized, check_action, sanitize_text

Edits = list[dict[str, str | int]]

# spaCy's tokenizer is quadratic on a long run of non-blanks: such a prompt takes the same function without a tokenizer.
_LONG_RUN = re.compile(r"\S{300}")
_MAX_CHARS = 100_000
_STATUSES = ("edited", "emptied", "refused")
_POSITIONS_SHOWN = 10


@dataclass(frozen=True)
class SanitizeResult:
    """What became of a list of prompts; the lists are in its order.

    Attributes:
        prompts: Sanitized prompts, ``""`` where emptied or refused.
        statuses: ``unchanged``, ``edited``, ``emptied`` or ``refused``.
        counts: prompts, edited, emptied, refused, and residual_markers (in the result: 0 unless the action is ``off``).
        edits: For each prompt {rule, action, start, end}, offsets into the original prompt, never text.

    """

    prompts: list[str]
    statuses: list[str]
    counts: dict[str, int]
    edits: list[Edits] = field(default_factory=list)


class PromptSanitizer:
    """Sanitizes prompts and checks batches.

    Args:
        conventions: Names of marker conventions, see ``cxrguard/sanitizer/conventions/``.
        action: ``repair``, ``drop_sentence``, ``strip`` (naive baseline) or ``off``.

    Raises:
        CxrguardError: For an unknown convention or action.

    """

    def __init__(self, conventions: Sequence[str], action: str) -> None:
        # Hydra hands over a ListConfig, which spaCy's config does not take.
        self.conventions = [str(name) for name in conventions]
        # YAML 1.1 reads a bare ``off`` as False.
        self.action = "off" if str(action) == "False" else str(action)
        check_action(self.action)
        self._loaded = load_conventions(self.conventions)
        self._nlp = spacy.blank("en")
        self._nlp.add_pipe("deid_sanitizer", config={"conventions": self.conventions, "action": self.action})

    def sanitize(self, prompts: Sequence[str]) -> SanitizeResult:
        """Sanitizes all prompts in one pass of ``nlp.pipe``; those without a marker do not pay for it."""
        results = [Sanitized(prompt, "unchanged") for prompt in prompts]
        edits: list[Edits] = [[] for _ in prompts]
        through_nlp: list[tuple[int, Collapsed]] = []
        for i, prompt in enumerate(prompts):
            if self.action == "off" or not residual_markers(prompt, self._loaded):
                continue
            short = collapse(prompt, self._loaded, mark=None)
            if len(short.text) <= _MAX_CHARS and not _LONG_RUN.search(short.text):
                through_nlp.append((i, short))
            else:
                results[i] = sanitize_text(prompt, self._loaded, self.action)
                edits[i] = [asdict(edit) for edit in results[i].edits]
        docs = self._nlp.pipe(short.text for _, short in through_nlp)
        for (i, short), doc in zip(through_nlp, docs, strict=True):
            results[i] = Sanitized(doc._.sanitized, doc._.sanitizer_status)
            edits[i] = [_moved(edit, short) for edit in doc._.sanitizer_edits]
        return self._result(results, edits)

    def _result(self, results: list[Sanitized], edits: list[Edits]) -> SanitizeResult:
        texts = [result.text for result in results]
        statuses = [result.status for result in results]
        counts = {"prompts": len(results)} | {status: statuses.count(status) for status in _STATUSES}
        counts["residual_markers"] = sum(residual_markers(text, self._loaded) for text in texts)
        return SanitizeResult(texts, statuses, counts, edits)

    def gate(self, prompts: Sequence[str]) -> None:
        """Lets a batch pass only without markers; does nothing when the action is ``off``.

        Raises:
            ResidualMarkerError: Names positions in the batch and the number of markers, never text.

        """
        if self.action == "off":
            return
        found = [(i, n) for i, prompt in enumerate(prompts) if (n := residual_markers(prompt, self._loaded))]
        if found:
            shown = ", ".join(str(i) for i, _ in found[:_POSITIONS_SHOWN]) + (", ..." if len(found) > _POSITIONS_SHOWN else "")
            raise ResidualMarkerError(
                f"{sum(n for _, n in found)} de-identification marker(s) in {len(found)} of {len(prompts)} prompts of a batch "
                f"(positions {shown}). Sanitize prompts before batching, or choose sanitizer=off."
            )


def _moved(edit: dict[str, str | int], short: Collapsed) -> dict[str, str | int]:
    start, end = short.to_original(int(edit["start"])), short.to_original(int(edit["end"]), end=True)
    return {**edit, "start": start, "end": end}
