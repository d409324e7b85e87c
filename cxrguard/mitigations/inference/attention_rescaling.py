"""Attention moved from the tokens that sum up the prompt to the one before it."""

from __future__ import annotations

from cxrguard.diffusion.attention_rescaling import RescaledAttention
from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.mitigations.inference.base import InferenceMitigation, Start


class AttentionRescaling(InferenceMitigation):
    """In every cross-attention layer under text: the first token's logit × 1.25, and −∞ at the end token and the padding, before the
    softmax (Ren et al., ECCV 2024, section 5: memorized prompts attend to the summary tokens).

    Published: C = 1.25, "padding masking"; the script leaves the end token in unless told otherwise (``mask_length_minis1``), here it is
    masked by default. Differences: each prompt's own layout says which tokens these are (CLIP's or BERT's, of any length; theirs is one
    length for the batch, 77 tokens, 8 heads and every second row); a negative logit is raised, too, by (C − 1)·|z| (theirs would fall);
    the unconditional prediction is left alone (theirs is masked by the prompt's length). All steps.

    Evaluations: none beside the sampling.

    Args:
        factor: C, above or at 1.
        mask_end: whether the end token is masked as well as the padding.

    """

    name = "attention_rescaling"
    acts_on = ("attention",)

    def __init__(self, factor: float = 1.25, mask_end: bool = True) -> None:
        if factor < 1:
            raise ValueError(f"factor must be at least 1, not {factor}")
        self.factor, self.mask_end = factor, mask_end

    def steer(self, denoiser: Denoiser, start: Start) -> Denoiser:
        """See :meth:`InferenceMitigation.steer`.

        Raises:
            BadInputError: If it is not known where the tokens lie.
            ModelError: If the model has no plain cross-attention.

        """
        tokens = start.require_tokens(self.name)
        hidden = tokens.section("padding")
        if self.mask_end:
            hidden = hidden | tokens.section("end")
        first = hidden.new_zeros(hidden.shape)
        first[:, 0] = True
        return RescaledAttention(denoiser, first, hidden, self.factor)
