"""Puts words into a prompt at random places; what the mitigations by insertion share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cxrguard.mitigations.inference.base import InferenceMitigation, Vocabulary, generator_of

Draw = Callable[[np.random.Generator], str]


def insert_drawn(prompt: str, insertions: int, draw: Draw, generator: np.random.Generator) -> str:
    """``prompt`` with ``insertions`` drawn words, one after the other, each between two of its words, before the first or after the last.

    Words are what single spaces part, as in the published code: line breaks and punctuation stay where they are.
    """
    for _ in range(insertions):
        words = prompt.split(" ")
        words.insert(int(generator.integers(len(words) + 1)), draw(generator))
        prompt = " ".join(words)
    return prompt


class Insertion(InferenceMitigation):
    """Inserts words that a subclass draws; each prompt is changed once, for all of its samples.

    A prompt that is longer than the text encoder takes may lose words at its end for those that come in.

    Args:
        insertions: how many words.

    """

    acts_on = ("prompt",)

    def __init__(self, insertions: int = 2) -> None:
        if insertions < 1:
            raise ValueError(f"insertions must be at least 1, not {insertions}")
        self.insertions = insertions

    def rewrite(self, prompts: Sequence[str], seed: int, vocabulary: Vocabulary) -> list[str | None]:
        """See :meth:`InferenceMitigation.rewrite`."""
        return [
            insert_drawn(prompt, self.insertions, self.drawing(prompt, vocabulary), generator_of(self.name, seed, prompt))
            for prompt in prompts
        ]

    def drawing(self, prompt: str, vocabulary: Vocabulary) -> Draw:
        """How a word for ``prompt`` is drawn."""
        raise NotImplementedError
