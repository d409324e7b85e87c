"""Words and tokens of a tokenizer to draw from, whatever its kind."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from cxrguard.errors import ModelError

_SHORTEST = 3
_TRIES = 1000


class TokenizerVocabulary:
    """What a tokenizer knows, CLIP's, BERT's or another.

    Args:
        tokenizer: of ``transformers``.

    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def random_word(self, generator: np.random.Generator) -> str:
        """A word of three letters or more that is one token; any alike.

        Raises:
            ModelError: If the tokenizer knows none.

        """
        return self.words[int(generator.integers(len(self.words)))]

    def random_token(self, generator: np.random.Generator) -> str:
        """The text of a token that is not special and has a text; any alike.

        Raises:
            ModelError: If none is found.

        """
        special = set(self._tokenizer.all_special_ids)
        for _ in range(_TRIES):
            number = int(generator.integers(len(self._tokenizer)))
            text = "" if number in special else self._text(number)
            if text:
                return text
        raise ModelError("the tokenizer has hardly a token with a text of its own to draw from")

    @cached_property
    def words(self) -> Sequence[str]:
        """All such words, in the order of their numbers."""
        texts = [self._text(number) for number in range(len(self._tokenizer))]
        known = list(dict.fromkeys(text for text in texts if len(text) >= _SHORTEST and text.isalpha()))
        # A piece of a word that stands alone is several tokens, or another one with the same text.
        ids = self._tokenizer(known, add_special_tokens=False, verbose=False).input_ids if known else []
        whole = [text for text, own in zip(known, ids, strict=True) if len(own) == 1 and own[0] != self._tokenizer.unk_token_id]
        if not whole:
            raise ModelError("the tokenizer knows no whole word to draw from")
        return whole

    def _text(self, number: int) -> str:
        """Its text as it stands in a prompt; "" for part of a character."""
        text = str(self._tokenizer.decode([number])).strip().removeprefix("##")
        return "" if "\ufffd" in text else text
