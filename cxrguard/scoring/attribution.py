"""What the tokens and words of a prompt contribute to its score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from cxrguard.probes.attribution import attribute_tokens
from cxrguard.probes.text_noise_norm import TextNoiseNorm
from cxrguard.probes.words import Word, aggregate_to_words, leave_one_word_out, token_offsets, words_of
from cxrguard.scoring.detectors import Draws
from cxrguard.scoring.model import ScoringModel, fits_in_memory


@dataclass(frozen=True)
class Piece:
    """A token or a word of a prompt.

    Attributes:
        level: ``"token"`` or ``"word"``.
        index: a token's place among all that the encoder is given, special ones included; a word's among the words.
        start: first character.
        end: one past the last character.
        gradient: see :class:`cxrguard.probes.attribution.TokenAttribution`; of a word the mean over its tokens. None if it was cut.
        gradient_times_input: the same; of a word the sum.
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

    """

    pieces: tuple[Piece, ...] = field(repr=False)
    cut: bool


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
        self._model, self._draws, self._seed = model, draws, seed
        self._ablation, self._batch_size = ablation, batch_size
        self._probe = TextNoiseNorm(steps=draws.steps, seeds=draws.seeds)

    def __call__(self, prompts: Sequence[str]) -> list[Attribution]:
        """One for each prompt.

        Raises:
            CxrguardError: If the model cannot be used for it, or runs out of memory.

        """
        parts = [prompts[i : i + self._batch_size] for i in range(0, len(prompts), self._batch_size)]
        with fits_in_memory(self._batch_size):
            return [found for part in parts for found in self._attribute(part)]

    def _attribute(self, prompts: Sequence[str]) -> list[Attribution]:
        batch = self._model.batch(prompts, self._seed)
        found = attribute_tokens(self._model.denoiser, batch, steps=self._draws.steps, seeds=self._draws.seeds)
        offsets = token_offsets(self._model.parts.tokenizer, prompts)
        assert batch.tokens is not None
        own = batch.tokens.section("prompt")
        cut = self._model.are_cut(prompts)
        return [
            Attribution((*_tokens(offsets[i], own[i], *scores), *self._words(prompt, offsets[i], *scores)), cut[i])
            for i, prompt in enumerate(prompts)
            for scores in [(found.gradient[i].cpu(), found.gradient_times_input[i].cpu())]
        ]

    def _words(self, prompt: str, offsets: Tensor, gradient: Tensor, product: Tensor) -> list[Piece]:
        words = words_of(prompt)
        means = aggregate_to_words(gradient, offsets, words, "mean")
        sums = aggregate_to_words(product, offsets, words, "sum")
        losses = self._left_out(prompt, words)
        rows = zip(words, means, sums, losses, strict=True)
        return [Piece("word", i, word.start, word.end, *scores) for i, (word, *scores) in enumerate(rows)]

    def _left_out(self, prompt: str, words: Sequence[Word]) -> Sequence[float | None]:
        if not self._ablation or not words:
            return [None] * len(words)
        return leave_one_word_out([prompt], self._scorer(prompt), self._batch_size)[0]

    def _scorer(self, prompt: str) -> Callable[[Sequence[str]], Tensor]:
        """Scores variants of ``prompt``, all under its own noise."""
        return lambda variants: self._probe(self._model.denoiser, self._model.batch(variants, self._seed, noise_of=prompt))


def _tokens(offsets: Tensor, own: Tensor, gradient: Tensor, product: Tensor) -> list[Piece]:
    return [
        Piece("token", i, int(offsets[i, 0]), int(offsets[i, 1]), float(gradient[i]), float(product[i]), None)
        for i in own.nonzero().flatten().tolist()
    ]
