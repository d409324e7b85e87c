"""How a prompt's score moves with small edits of it, all scored under the prompt's own noise."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cxrguard.audit.marker_test import marker_case
from cxrguard.data.prompt_form import MARKER, PLACES, QUALITIES, STRUCTURES
from cxrguard.probes.paraphrase import paraphrase
from cxrguard.probes.sensitivity import MARKER_EDITS, marker_edits, swap_words
from cxrguard.probes.words import words_of
from cxrguard.randomness import prompt_key
from cxrguard.sanitizer.conventions import AUTO, find_markers
from cxrguard.sanitizer.pipeline import TextSanitizer
from cxrguard.sanitizer.settings import SanitizerSettings
from cxrguard.scoring.keyed_scorer import NoiseKeyedScorer
from cxrguard.scoring.model import ScoringModel

ORIGINAL, SANITIZED, PLACEBO = "original", "sanitized", "placebo"
SEARCHES = {"adversarial_raise": True, "adversarial_lower": False}
EDITS = (*MARKER_EDITS, SANITIZED, PLACEBO, *SEARCHES)
# Words of no patient, the same for every table, so that a prompt's figures do not hang on the other prompts.
VOCABULARY = tuple(sorted({*QUALITIES, *STRUCTURES, *PLACES}))
_ROUNDING = 1e-5  # of a score: what the other prompts of its batch may change in it


@dataclass(frozen=True)
class Wording:
    """A prompt, or an edit of it.

    Attributes:
        kind: ``"original"`` or one of :data:`EDITS`.
        text: what it reads.
        score: its score; NaN where the detector gives no number.
        words_changed: words taken out, put in or replaced.

    """

    kind: str
    text: str = field(repr=False)
    score: float
    words_changed: int


@dataclass(frozen=True)
class Sensitivity:
    """A prompt's wordings, the original first.

    Attributes:
        wordings: an edit that cannot be made of this prompt is not there.
        marked: whether it holds a marker.
        status: the sanitizer's: ``unchanged``, ``edited``, ``emptied`` or ``refused``.
        cut: whether it is longer than the encoder takes.

    """

    wordings: tuple[Wording, ...]
    marked: bool
    status: str
    cut: bool

    def score(self, kind: str) -> float | None:
        """The score of a kind, None where it is not there."""
        return next((wording.score for wording in self.wordings if wording.kind == kind), None)


class SensitivityProbe:
    """Makes the edits of prompts and scores them.

    Args:
        model: the model, for its tokenizer.
        score: scores prompts.
        seed: of the edits.
        budget: prompts that each of a prompt's two adversarial searches may score; 0 leaves them out.

    """

    def __init__(self, model: ScoringModel, score: NoiseKeyedScorer, seed: int, budget: int = 0) -> None:
        self._model, self._score, self._seed, self._budget = model, score, seed, budget
        self._sanitizer = TextSanitizer(SanitizerSettings(conventions=(AUTO,)))

    def __call__(self, prompts: Sequence[str]) -> list[Sensitivity]:
        """One for each prompt; see :class:`NoiseKeyedScorer` for what is raised."""
        made = [self.edits(prompt) for prompt in prompts]
        texts = [text for edits, _, _ in made for text in edits.values()]
        keys = [prompt_key(prompt) for prompt, (edits, _, _) in zip(prompts, made, strict=True) for _ in edits]
        scores = iter(self._score(texts, keys).tolist())
        cut = self._model.are_cut(prompts)
        return [
            Sensitivity(self._wordings(prompt, edits, scores), marked, status, cut[i])
            for i, (prompt, (edits, marked, status)) in enumerate(zip(prompts, made, strict=True))
        ]

    def edits(self, prompt: str) -> tuple[dict[str, str], bool, str]:
        """The prompt and its edits by kind, whether it holds a marker, and what the sanitizer did."""
        markers = find_markers(prompt, self._sanitizer.conventions)
        texts: dict[str, str | None] = {ORIGINAL: prompt}
        if not markers:
            texts["paraphrased"] = paraphrase(prompt)
            return _made(texts), False, "unchanged"
        texts |= {edit.kind: edit.text for edit in marker_edits(prompt, markers, vocabulary=VOCABULARY, seed=self._seed)}
        sanitized = self._sanitizer.sanitize(prompt)
        case = marker_case(prompt, markers, sanitized.text, self.count_tokens, seed=self._seed)
        if case:
            texts |= {SANITIZED: case.sanitized, PLACEBO: case.placebo}
        return _made(texts), True, sanitized.status

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, uncut."""
        return len(self._model.parts.tokenizer(text, verbose=False).input_ids)

    def _wordings(self, prompt: str, edits: dict[str, str], scores: Iterator[float]) -> tuple[Wording, ...]:
        made = [Wording(kind, text, next(scores), words_changed(prompt, text)) for kind, text in edits.items()]
        return (*made, *self._search(prompt, made[0].score))

    def _search(self, prompt: str, original: float) -> list[Wording]:
        """The worst words within the budget; where no swap helps the prompt itself, 0 words changed."""
        if not self._budget or not words_of(prompt):
            return []
        key = prompt_key(prompt)
        found = {
            kind: swap_words(
                prompt,
                lambda texts: self._score(texts, [key] * len(texts)).tolist(),
                (*VOCABULARY, MARKER),
                raise_score=upward,
                budget=self._budget,
                seed=self._seed,
            )
            for kind, upward in SEARCHES.items()
        }
        return [
            Wording(kind, swaps.texts[-1], swaps.scores[-1], len(swaps.texts) - 1)
            if abs(swaps.scores[-1] - original) > _ROUNDING * max(1.0, abs(original))
            else Wording(kind, prompt, original, 0)
            for kind, swaps in found.items()
        ]


def _made(texts: dict[str, str | None]) -> dict[str, str]:
    return {kind: text for kind, text in texts.items() if text is not None}


def words_changed(before: str, after: str) -> int:
    """Words taken out, put in or replaced, in the shortest way that difflib finds; one that moves is taken out and put in."""
    old, new = ([word.text for word in words_of(text)] for text in (before, after))
    steps = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return sum(max(a1 - a0, b1 - b0) for what, a0, a1, b0, b1 in steps if what != "equal")
