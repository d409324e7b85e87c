"""Random tokens between the words of the prompt."""

from __future__ import annotations

from cxrguard.mitigations.inference.base import Vocabulary
from cxrguard.mitigations.inference.insertion import Draw, Insertion


class RandomToken(Insertion):
    """p → p with r tokens of the tokenizer's vocabulary, as text, at uniform places (Somepalli et al., NeurIPS 2023).

    The ``rand_word_add`` of the published code with its default r = 2 (Wen et al., ICLR 2024, compare with 4); there CLIP's ids below
    49,400 are hard-coded, here any tokenizer's that are not special. A piece of a word is tokenized again in its new place. No evaluations.
    """

    name = "random_token"

    def drawing(self, prompt: str, vocabulary: Vocabulary) -> Draw:
        """See :meth:`Insertion.drawing`."""
        return vocabulary.random_token
