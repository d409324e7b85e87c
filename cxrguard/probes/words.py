"""From tokens to words, by character offsets, and what a score loses with each word. The text is never written anywhere."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from cxrguard.errors import ModelError
from cxrguard.randomness import prompt_key

Span = tuple[int, int]
# Prompts in, a score each out. To compare variants of a prompt, give all of them the same noise: one key in ProbeBatch.keys.
Scorer = Callable[[Sequence[str]], "Sequence[float] | Tensor"]
# Prompts and a noise key for each in, a score each out. Prompts of one key are scored under the same noise.
KeyedScorer = Callable[[Sequence[str], Sequence[str]], Any]

_RUN = re.compile(r"\S+")
REDUCTIONS = ("sum", "mean", "max")


@dataclass(frozen=True)
class Word:
    """A word and where it lies in its prompt, ``prompt[start:end]``. Its text is kept out of ``repr``."""

    text: str = field(repr=False)
    start: int
    end: int


def words_of(prompt: str) -> tuple[Word, ...]:
    """Runs of non-space without the punctuation at their ends; ``___`` is one word, and punctuation alone is none."""
    found = []
    for run in _RUN.finditer(prompt):
        start, end = run.span()
        while start < end and _is_punctuation(prompt[start]):
            start += 1
        while start < end and _is_punctuation(prompt[end - 1]):
            end -= 1
        if start < end:
            found.append(Word(prompt[start:end], start, end))
    return tuple(found)


def _is_punctuation(character: str) -> bool:
    return character != "_" and unicodedata.category(character)[0] in "PS"


def token_offsets(tokenizer: Any, prompts: Sequence[str]) -> Int[Tensor, "n l 2"]:
    """The characters [start, end) that each token stands for, padded and cut as the encoder sees it; (0, 0) for special tokens.

    Raises:
        ModelError: For a tokenizer that does not say so.

    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"the tokenizer ({type(tokenizer).__name__}) does not say which characters its tokens stand for; "
            "save the pipeline with the fast tokenizer (tokenizer.json) of the same vocabulary"
        )
    given = tokenizer(
        list(prompts), padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_offsets_mapping=True
    )
    return torch.tensor(given["offset_mapping"], dtype=torch.int64)


def aggregate_to_words(
    token_scores: Sequence[float] | Tensor, offsets: Sequence[Span] | Tensor, words: Sequence[Word], reduction: str = "sum"
) -> tuple[float | None, ...]:
    """A score a word from the scores of the tokens ``[L]`` that lie in it.

    A token that lies in several words counts in each by its characters there; one that lies in none (special tokens, padding, lone
    punctuation) counts nowhere.

    Args:
        token_scores: of one prompt.
        offsets: see :func:`token_offsets`.
        words: see :func:`words_of`.
        reduction: ``"sum"``, ``"mean"`` (weighted by the share of the token) or ``"max"``.

    Returns:
        In the order of ``words``; None for a word that no token stands for, such as one that was cut.

    Raises:
        ValueError: If there is not an offset for each score.

    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, not {reduction!r}")
    if len(token_scores) != len(offsets):
        raise ValueError(f"{len(token_scores)} scores for {len(offsets)} tokens")
    parts: list[list[tuple[float, float]]] = [[] for _ in words]
    for score, (start, end) in zip(_floats(token_scores), _pairs(offsets), strict=True):
        shared = [max(0, min(end, word.end) - max(start, word.start)) for word in words]
        for i, characters in enumerate(shared):
            if characters:
                parts[i].append((score, characters / sum(shared)))
    return tuple(_reduce(part, reduction) for part in parts)


def _reduce(parts: Sequence[tuple[float, float]], reduction: str) -> float | None:
    if not parts:
        return None
    if reduction == "max":
        return max(score for score, _ in parts)
    total = sum(score * share for score, share in parts)
    return total if reduction == "sum" else total / sum(share for _, share in parts)


def cut_out(prompt: str, spans: Sequence[Span]) -> str:
    """``prompt`` without ``spans``, each with the space before it where that leaves no word glued to another, or at the start and after an
    opening bracket with the space after it; the rest stays as it is.

    Raises:
        ValueError: For spans that overlap or lie outside.

    """
    kept, done = "", 0
    for start, end in check_spans(prompt, spans):
        kept += prompt[done:start]
        done = end
        if kept[-1:].isspace() and not _goes_on(prompt, end):
            kept = kept.rstrip()
        elif not kept or unicodedata.category(kept[-1]) in ("Ps", "Pi"):
            done += len(prompt[end:]) - len(prompt[end:].lstrip())
    return kept + prompt[done:]


def _goes_on(prompt: str, place: int) -> bool:
    """Whether there is more of a word before the next space."""
    run = _RUN.match(prompt, place)
    return run is not None and not all(_is_punctuation(character) for character in run[0])


def check_spans(prompt: str, spans: Sequence[Span]) -> list[Span]:
    """The spans in order; see :func:`cut_out`."""
    ordered = sorted((int(start), int(end)) for start, end in spans)
    edges = [0, *(edge for span in ordered for edge in span), len(prompt)]
    if any(a > b for a, b in pairwise(edges)):
        raise ValueError(f"spans must lie in the prompt's {len(prompt)} characters and apart from each other")
    return ordered


def score_unique(score: Scorer, prompts: Sequence[str], batch_size: int = 64) -> dict[str, float]:
    """The score of each prompt; equal prompts are scored once, ``batch_size`` at a time.

    Raises:
        ValueError: If there is not a score for each.

    """
    unique, scores = list(dict.fromkeys(prompts)), list[float]()
    for i in range(0, len(unique), batch_size):
        scores += _floats(score(unique[i : i + batch_size]))
    if len(scores) != len(unique):
        raise ValueError(f"{len(scores)} scores came back for {len(unique)} prompts")
    return dict(zip(unique, scores, strict=True))


def leave_one_word_out(prompts: Sequence[str], score: KeyedScorer) -> list[tuple[float, ...]]:
    """s(prompt) − s(prompt without the word) for each of :func:`words_of` each prompt, in order; above 0 the word raises the score.

    The punctuation at the word stays. One scoring a prompt and one a word, all prompts in one call, so that short prompts fill a batch too.

    Args:
        prompts: any.
        score: see :data:`KeyedScorer`; a prompt and its variants have the prompt's own key.

    Raises:
        ValueError: If there is not a score for each.

    """
    variants = [(prompt, *(cut_out(prompt, [(word.start, word.end)]) for word in words_of(prompt))) for prompt in prompts]
    texts = [text for some in variants for text in some]
    scores = _floats(score(texts, [prompt_key(some[0]) for some in variants for _ in some]))
    if len(scores) != len(texts):
        raise ValueError(f"{len(scores)} scores came back for {len(texts)} prompts")
    found = iter(scores)
    return [tuple(whole - next(found) for _ in rest) for _, *rest in variants for whole in [next(found)]]


def _floats(values: Any) -> list[float]:
    return [float(v) for v in (values.tolist() if isinstance(values, Tensor) else values)]


def _pairs(offsets: Sequence[Span] | Tensor) -> list[Span]:
    return [(int(start), int(end)) for start, end in (offsets.tolist() if isinstance(offsets, Tensor) else offsets)]
