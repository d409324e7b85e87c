"""Several captions a sample: words dropped and put in at random, so that no image hangs on one exact wording.

Somepalli et al. (NeurIPS 2023, "Understanding and Mitigating Copying in Diffusion Models", section 6) train on several captions an
image, and on captions with random words put in or repeated, with a probability of 0.1 in their code. A word that is dropped may be a
"no": this changes what a caption says, which is the price; the first variant is always the caption itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxrguard.errors import CxrguardError
from cxrguard.randomness import derive_seed, numpy_generator, prompt_key


@dataclass(frozen=True)
class CaptionVariants:
    """How many captions each sample has, and how the further ones are made.

    Attributes:
        variants: captions a sample; 1 is the caption alone.
        word_drop: probability that a word is left out.
        random_insert: probability that a word of another caption of the set is put after a word.

    Raises:
        CxrguardError: a number is out of range.

    """

    variants: int = 1
    word_drop: float = 0.1
    random_insert: float = 0.1

    def __post_init__(self) -> None:
        if self.variants < 1 or not 0 <= self.word_drop < 1 or not 0 <= self.random_insert < 1:
            raise CxrguardError(
                f"guard.captions needs variants >= 1 and probabilities from 0 to below 1, not {self.variants}, {self.word_drop:g}, "
                f"{self.random_insert:g}"
            )

    def of(self, prompts: Sequence[str], seed: int) -> Sequence[str]:
        """All captions, those of a sample one after the other: ``variants`` times as many as ``prompts``.

        A function of (seed, prompt, number of the variant, the set's words) alone.
        """
        if self.variants == 1:
            return prompts
        words = sorted({word for prompt in prompts for word in prompt.split()})
        return [self._variant(prompt, i, words, seed) for prompt in prompts for i in range(self.variants)]

    def _variant(self, prompt: str, i: int, words: Sequence[str], seed: int) -> str:
        if i == 0 or not words:
            return prompt
        rng = numpy_generator("caption", seed, prompt_key(prompt), i)
        kept: list[str] = []
        for word in prompt.split():
            drop, insert, other = rng.random(), rng.random(), int(rng.integers(len(words)))
            kept += [word] if drop >= self.word_drop else []
            kept += [words[other]] if insert < self.random_insert else []
        return " ".join(kept) or prompt


def choose_caption(variants: int, seed: int, epoch: int, sample: int, draw: int) -> int:
    """Which caption a showing has."""
    return derive_seed("caption-choice", seed, epoch, sample, draw) % variants if variants > 1 else 0


def share_changed(prompts: Sequence[str], captions: Sequence[str], variants: int) -> float:
    """Share of all captions that differ from their sample's own."""
    own = np.repeat(np.array(prompts, object), variants)
    return float(np.mean(own != np.array(captions, object))) if len(own) else 0.0
