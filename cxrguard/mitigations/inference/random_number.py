"""Random numbers between the words of the prompt."""

from __future__ import annotations

from cxrguard.mitigations.inference.base import Vocabulary
from cxrguard.mitigations.inference.insertion import Draw, Insertion

NUMBERS = 100_000


class RandomNumber(Insertion):
    """p → p with r numbers, uniform in [0, 100,000), at uniform places (Somepalli et al., NeurIPS 2023, ``rand_numb_add``).

    The published code's default is r = 2 (Wen et al., ICLR 2024, compare with 4). A number in a report may be read as a measurement: it is
    a change of the prompt, not of what is known of the patient. No evaluations.
    """

    name = "random_number"

    def drawing(self, prompt: str, vocabulary: Vocabulary) -> Draw:
        """See :meth:`Insertion.drawing`."""
        return lambda generator: str(generator.integers(NUMBERS))
