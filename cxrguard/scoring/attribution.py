"""What the tokens and words of a prompt contribute to its score."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from cxrguard.probes.attribution import TokenAttribution, attribute_tokens
from cxrguard.probes.tokens import SECTIONS
from cxrguard.probes.words import aggregate_to_words, leave_one_word_out, token_offsets, words_of
from cxrguard.scoring.detectors import DEFAULT, Draws
from cxrguard.scoring.keyed_scorer import NoiseKeyedScorer
from cxrguard.scoring.model import ScoringModel, fits_in_memory

SECTION, TOKEN, WORD = LEVELS = ("section", "token", "word")


@dataclass(frozen=True)
class Piece:
    """A token or a word of a prompt, or one of its :data:`~cxrguard.probes.tokens.SECTIONS`.

    Attributes:
        level: of :data:`LEVELS`.
        index: a token's place among all that the encoder is given, special ones included; a word's among the words; a section's.
        start: first character; 0 for a section.
        end: one past the last character; 0 for a section.
        gradient: see :class:`cxrguard.probes.attribution.TokenAttribution`; of a word or a section the mean over its tokens. None if it
            was cut or has none.
        gradient_times_input: the same; of a word or a section the sum.
        ablation: what the score loses with the word; None for tokens, and where it was not asked for.

    """

    level: str
    index: int
    start: int
    end: int
    gradient: float | None
    gradient_times_input: float | None
    ablation: float | None


@dataclass(frozen=True)
class Attribution:
    """A prompt's pieces.

    Attributes:
        pieces: tokens, then words, each in order.
        cut: whether the prompt is longer than the encoder takes.
        sections: what lies outside the words (begin, end token, padding) kept apart from what lies in them, in order.

    """

    pieces: tuple[Piece, ...] = field(repr=False)
    cut: bool
    sections: tuple[Piece, ...] = ()


class Attributor:
    """Attributes prompts.

    Args:
        model: the model.
        draws: steps and seeds.
        seed: of the noise.
        ablation: whether each word is left out in turn, too.
        batch_size: prompts at once.

    """

    def __init__(self, model: ScoringModel, draws: Draws, seed: int, *, ablation: bool, batch_size: int) -> None:
        self._model, self._draws, self._seed, self._batch_size = model, draws, seed, batch_size
        self._score = NoiseKeyedScorer(model, DEFAULT, draws, seed, batch_size) if ablation else None

    def __call__(self, prompts: Sequence[str]) -> list[Attribution]:
        """One for each prompt.

        Raises:
            CxrguardError: If the model cannot be used for it, or runs out of memory.

        """
        parts = [prompts[i : i + self._batch_size] for i in range(0, len(prompts), self._batch_size)]
        with fits_in_memory(self._batch_size):
            return [found for part in parts for found in self._attribute(part)]

    def _attribute(self, prompts: Sequence[str]) -> Iterator[Attribution]:
        batch = self._model.batch(prompts, self._seed)
        found = attribute_tokens(self._model.denoiser, batch, steps=self._draws.steps, seeds=self._draws.seeds)
        offsets = token_offsets(self._model.parts.tokenizer, prompts)
        assert batch.tokens is not None
        own, sections = batch.tokens.section("prompt"), _sections(found)
        losses = leave_one_word_out(prompts, self._score) if self._score else [None] * len(prompts)
        for i, (prompt, cut) in enumerate(zip(prompts, self._model.are_cut(prompts), strict=True)):
            scores = found.gradient[i].cpu(), found.gradient_times_input[i].cpu()
            pieces = (*_tokens(offsets[i], own[i], *scores), *_words(prompt, offsets[i], *scores, losses[i]))
            yield Attribution(pieces, cut, sections[i])


def _sections(found: TokenAttribution) -> list[tuple[Piece, ...]]:
    """Each prompt's sections."""
    means = {name: values.tolist() for name, values in found.by_section().items()}
    sums = {name: values.tolist() for name, values in found.change_by_section().items()}

    def piece(row: int, index: int, name: str) -> Piece:
        mean = means[name][row]
        return Piece(SECTION, index, 0, 0, None if math.isnan(mean) else mean, sums[name][row], None)

    return [tuple(piece(row, i, name) for i, name in enumerate(SECTIONS)) for row in range(len(found.gradient))]


def _words(prompt: str, offsets: Tensor, gradient: Tensor, product: Tensor, losses: Sequence[float | None] | None) -> list[Piece]:
    words = words_of(prompt)
    means = aggregate_to_words(gradient, offsets, words, "mean")
    sums = aggregate_to_words(product, offsets, words, "sum")
    rows = zip(words, means, sums, losses or [None] * len(words), strict=True)
    return [Piece(WORD, i, word.start, word.end, *scores) for i, (word, *scores) in enumerate(rows)]


def _tokens(offsets: Tensor, own: Tensor, gradient: Tensor, product: Tensor) -> list[Piece]:
    return [
        Piece(TOKEN, i, int(offsets[i, 0]), int(offsets[i, 1]), float(gradient[i]), float(product[i]), None)
        for i in own.nonzero().flatten().tolist()
    ]
