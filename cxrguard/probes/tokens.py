"""Where a prompt's own tokens lie among those that the text encoder was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

SECTIONS = ("begin", "prompt", "end", "padding")


@dataclass(frozen=True)
class TokenLayout:
    """The sections of each prompt's tokens: special ones before it, its own ``[begin, end)``, the end token, padding.

    Nothing is assumed of the encoder: CLIP's first EOS and BERT's ``[SEP]`` are both the last token before the padding. It is made
    by :func:`cxrguard.diffusion.encoding.token_layout`; ``layout[rows]`` takes some of the prompts.

    Attributes:
        begin: index of the first token of the prompt itself, ``[N]``; of an empty prompt ``end``.
        end: index of the end token, ``[N]``.
        length: L, tokens a prompt with padding.

    Raises:
        ValueError: Unless 0 ≤ begin ≤ end < length for each prompt.

    """

    begin: Tensor
    end: Tensor
    length: int

    def __post_init__(self) -> None:
        if self.begin.shape != self.end.shape or self.begin.ndim != 1:
            raise ValueError(f"begin and end must be of one shape [N], not {list(self.begin.shape)} and {list(self.end.shape)}")
        if not bool(((self.begin >= 0) & (self.begin <= self.end) & (self.end < self.length)).all()):
            raise ValueError(f"tokens must lie as 0 ≤ begin ≤ end < length ({self.length}) in every prompt")

    def __len__(self) -> int:
        return len(self.end)

    def __getitem__(self, rows: slice | Sequence[int] | Tensor) -> TokenLayout:
        return TokenLayout(self.begin[rows], self.end[rows], self.length)

    def section(self, name: str) -> Bool[Tensor, "n l"]:
        """The tokens of one of :data:`SECTIONS`; each token is in exactly one.

        Raises:
            ValueError: For another name.

        """
        place, begin, end = self._places()
        if name == "begin":
            return place < begin
        if name == "prompt":
            return (place >= begin) & (place < end)
        if name == "end":
            return place == end
        if name == "padding":
            return place > end
        raise ValueError(f"section must be one of {', '.join(SECTIONS)}, not {name!r}")

    @property
    def summary(self) -> Bool[Tensor, "n l"]:
        """The end token and the padding after it, which hold no word of their own and sum up the prompt (Ren et al.)."""
        place, _, end = self._places()
        return place >= end

    def _places(self) -> tuple[Int[Tensor, "1 l"], Int[Tensor, "n 1"], Int[Tensor, "n 1"]]:
        place = torch.arange(self.length, device=self.end.device)[None]
        return place, self.begin[:, None], self.end[:, None]
