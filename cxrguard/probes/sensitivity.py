"""How a score moves with small changes to the prompt: edits of its markers, a placebo for them, and a search for the worst words.

All pure: prompts in, prompts out, and scores by a callable. Randomness is a function of seed, prompt and edit. No text is in any
``repr`` or error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from cxrguard.probes.paraphrase import paraphrase
from cxrguard.probes.words import Scorer, Span, Word, check_spans, cut_out, score_unique, words_of
from cxrguard.randomness import numpy_generator, prompt_key

MARKER_EDITS = ("removed", "random_word", "random_number", "moved", "paraphrased")
_NUMBERS = 100_000
_SUBSETS = 64


@dataclass(frozen=True)
class PromptEdit:
    """A prompt that was changed, and how (one of :data:`MARKER_EDITS`)."""

    kind: str
    text: str = field(repr=False)


def marker_edits(prompt: str, markers: Sequence[Span], *, vocabulary: Sequence[str], seed: int) -> tuple[PromptEdit, ...]:
    """The prompt with all its markers removed, replaced by random words, by random numbers below 100,000, moved to other places, and with
    its markers left alone but the rest in other words. An edit that cannot be made of this prompt is left out.

    Args:
        prompt: any.
        markers: where its markers lie.
        vocabulary: words to draw from.
        seed: of the draws.

    Raises:
        ValueError: Without a marker or a vocabulary, or for spans that overlap.

    """
    spans = check_spans(prompt, markers)
    if not spans or not vocabulary:
        raise ValueError("a prompt without a marker has no marker to edit" if not spans else "the vocabulary is empty")
    words = _generator(prompt, seed, "random_word").choice(np.asarray(vocabulary, dtype=object), len(spans))
    numbers = _generator(prompt, seed, "random_number").integers(_NUMBERS, size=len(spans))
    texts = {
        "removed": cut_out(prompt, spans),
        "random_word": replace_spans(prompt, spans, [str(word) for word in words]),
        "random_number": replace_spans(prompt, spans, [str(number) for number in numbers]),
        "moved": _move(prompt, spans, _generator(prompt, seed, "moved")),
        "paraphrased": paraphrase(prompt, tuple(spans)),
    }
    return tuple(PromptEdit(kind, text) for kind, text in texts.items() if text is not None and text != prompt)


def replace_spans(prompt: str, spans: Sequence[Span], texts: Sequence[str]) -> str:
    """``prompt`` with ``texts`` in place of ``spans``, which are in order."""
    for (start, end), text in reversed(list(zip(spans, texts, strict=True))):
        prompt = prompt[:start] + text + prompt[end:]
    return prompt


def _move(prompt: str, spans: Sequence[Span], generator: np.random.Generator) -> str | None:
    """The markers at other places between words; None where there is no other place."""
    moved = cut_out(prompt, spans)
    for i, (start, end) in enumerate(spans, start=1):
        options = [_insert(moved, place, prompt[start:end]) for place in _gaps(moved)]
        if i == len(spans):
            options = [text for text in options if _said(text) != _said(prompt)]
        if not options:
            return None
        moved = options[int(generator.integers(len(options)))]
    return moved


def _gaps(text: str) -> list[int]:
    return [0, *(gap.end() for gap in re.finditer(r"\s+", text)), len(text)]


def _insert(text: str, place: int, word: str) -> str:
    return " ".join(part for part in (text[:place].strip(), word, text[place:].strip()) if part)


def _said(text: str) -> list[str]:
    return [word.text for word in words_of(text)]


def placebo_edit(prompt: str, markers: Sequence[Span], n_tokens: int, count_tokens: Callable[[str], int], *, seed: int) -> str | None:
    """The prompt without ordinary words that are ``n_tokens`` long together, for the causal marker test: is it the marker that matters,
    or any edit of this length?

    A run of neighbouring words is taken where one fits, else words from several places. Markers stay, also one within a run.

    Args:
        prompt: with its markers.
        markers: where they lie.
        n_tokens: what the real edit took away: tokens of the prompt less tokens of the sanitized one.
        count_tokens: tokens of a text.
        seed: which of the fitting edits.

    Returns:
        None if no edit of exactly this length was found, as for ``n_tokens`` below 1.

    """
    spans, before = check_spans(prompt, markers), count_tokens(prompt)
    words = [word for word in words_of(prompt) if all(word.end <= start or end <= word.start for start, end in spans)]
    if n_tokens < 1 or not words:
        return None
    generator = _generator(prompt, seed, "placebo")

    def removed(chosen: Sequence[Word]) -> int:
        return before - count_tokens(cut_out(prompt, [(word.start, word.end) for word in chosen]))

    found = _fitting_run(words, n_tokens, removed, generator) or _fitting_set(words, n_tokens, removed, generator)
    return cut_out(prompt, [(word.start, word.end) for word in found]) if found else None


def _fitting_run(
    words: Sequence[Word], n_tokens: int, removed: Callable[[Sequence[Word]], int], generator: np.random.Generator
) -> Sequence[Word] | None:
    for first in generator.permutation(len(words)).tolist():
        for last in range(first + 1, len(words) + 1):
            run = words[first:last]
            length = removed(run)
            if length == n_tokens:
                return run
            if length > n_tokens:
                break
    return None


def _fitting_set(
    words: Sequence[Word], n_tokens: int, removed: Callable[[Sequence[Word]], int], generator: np.random.Generator
) -> Sequence[Word] | None:
    for _ in range(_SUBSETS):
        chosen: list[Word] = []
        for i in generator.permutation(len(words)).tolist():
            length = removed([*chosen, words[i]])
            if length <= n_tokens:
                chosen.append(words[i])
            if length == n_tokens:
                return chosen
    return None


@dataclass(frozen=True)
class SwapSearch:
    """What a search found: the prompt after 0, 1, 2, … swaps.

    Attributes:
        texts: the prompts.
        scores: theirs; each goes further than the one before.
        evaluated: prompts that were scored.

    """

    texts: tuple[str, ...] = field(repr=False)
    scores: tuple[float, ...]
    evaluated: int

    def smallest(self, share: float = 1.0) -> int:
        """The fewest swaps that make ``share`` of the whole change; 0 where nothing was found."""
        whole = self.scores[-1] - self.scores[0]
        return next(i for i, score in enumerate(self.scores) if abs(score - self.scores[0]) >= share * abs(whole))


def swap_words(
    prompt: str,
    score: Scorer,
    vocabulary: Sequence[str],
    *,
    raise_score: bool,
    budget: int = 256,
    candidates: int = 4,
    max_swaps: int | None = None,
    seed: int = 0,
) -> SwapSearch:
    """Greedy adversarial search: in each round the one swap of a word that moves the score most, until none does or the budget is spent.

    Args:
        prompt: any.
        score: see :data:`cxrguard.probes.words.Scorer`; it is given a round at once.
        vocabulary: single words to swap in.
        raise_score: towards a higher score, else a lower one.
        budget: prompts that may be scored, the prompt itself among them.
        candidates: words that are tried at each place in a round.
        max_swaps: stop after so many; None for as many as there are words.
        seed: of the candidates.

    Raises:
        ValueError: For a vocabulary that is empty or holds what is no single word, or a budget below 1.

    """
    _check_search(vocabulary, budget, candidates)
    sign, generator = (1 if raise_score else -1), _generator(prompt, seed, "swap_words")
    texts, scores, evaluated, swapped = [prompt], [score_unique(score, [prompt])[prompt]], 1, set[int]()
    while evaluated < budget and (max_swaps is None or len(swapped) < max_swaps):
        tried = _swaps(texts[-1], swapped, vocabulary, candidates, generator)[: budget - evaluated]
        if not tried:
            break
        found = score_unique(score, [text for _, text in tried], len(tried))
        evaluated += len(found)
        place, text = max(tried, key=lambda swap: sign * found[swap[1]])
        if sign * found[text] <= sign * scores[-1]:
            break
        texts, scores, swapped = [*texts, text], [*scores, found[text]], swapped | {place}
    return SwapSearch(tuple(texts), tuple(scores), evaluated)


def _swaps(
    text: str, swapped: set[int], vocabulary: Sequence[str], candidates: int, generator: np.random.Generator
) -> list[tuple[int, str]]:
    """(place of the word, text with another word there), in random order, so that a budget cuts any place alike."""
    swaps = []
    for place, word in enumerate(words_of(text)):
        others = [other for other in vocabulary if other != word.text] if place not in swapped else []
        for i in generator.permutation(len(others))[:candidates].tolist():
            swaps.append((place, replace_spans(text, [(word.start, word.end)], [others[i]])))
    return [swaps[i] for i in generator.permutation(len(swaps)).tolist()]


def _check_search(vocabulary: Sequence[str], budget: int, candidates: int) -> None:
    if budget < 1 or candidates < 1:
        raise ValueError(f"budget and candidates must be at least 1, not {budget} and {candidates}")
    odd = sum([word.text for word in words_of(entry)] != [entry] for entry in vocabulary)
    if odd or not vocabulary:
        raise ValueError(f"{odd} of {len(vocabulary)} entries of the vocabulary are no single word" if odd else "the vocabulary is empty")


def _generator(prompt: str, seed: int, what: str) -> np.random.Generator:
    return numpy_generator("sensitivity", what, seed, prompt_key(prompt))
