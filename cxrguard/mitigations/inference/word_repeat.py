"""The prompt's own words once more."""

from __future__ import annotations

from cxrguard.mitigations.inference.base import Vocabulary
from cxrguard.mitigations.inference.insertion import Draw, Insertion


class WordRepeat(Insertion):
    """p → p with r of its own words, drawn with replacement, at uniform places (Somepalli et al., NeurIPS 2023, ``rand_word_repeat``).

    The published code's default is r = 2 (Wen et al., ICLR 2024, compare with 4). No evaluations.
    """

    name = "word_repeat"

    def drawing(self, prompt: str, vocabulary: Vocabulary) -> Draw:
        """See :meth:`Insertion.drawing`."""
        words = [word for word in prompt.split(" ") if word.strip()] or [""]
        return lambda generator: words[int(generator.integers(len(words)))]
