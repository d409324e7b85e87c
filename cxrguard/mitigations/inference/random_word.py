"""Random words between those of the prompt."""

from __future__ import annotations

from cxrguard.mitigations.inference.base import Vocabulary
from cxrguard.mitigations.inference.insertion import Draw, Insertion


class RandomWord(Insertion):
    """p → p with r whole words of the tokenizer's vocabulary at uniform places (Somepalli et al., NeurIPS 2023, "random word").

    The published code (``rand_word_add``) draws any token, pieces of words too: that is :class:`.random_token.RandomToken`. Its default
    is r = 2 (Wen et al., ICLR 2024, compare with 4). No evaluations.
    """

    name = "random_word"

    def drawing(self, prompt: str, vocabulary: Vocabulary) -> Draw:
        """See :meth:`Insertion.drawing`."""
        return vocabulary.random_word
