"""Chen's detector: the guidance where the finished image still attends to the end of the prompt."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from cxrguard.diffusion.attention import CrossAttentionRecord
from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_difference import check_seeds, check_steps, per_sample_norm
from cxrguard.probes.tokens import TokenLayout


def end_attention(record: CrossAttentionRecord, tokens: TokenLayout) -> Float[Tensor, "n 1 h w"]:
    """Attention to the end token at each position, the mean over heads and over the layers of the largest down block.

    A model without cross-attention on the way down is looked at where its layers are largest.
    """
    maps = list(record.maps.values())
    maps = [m for m in maps if m.stage == "down"] or maps
    most = max(m.probs.shape[1] for m in maps)
    largest = [m for m in maps if m.probs.shape[1] == most]
    probs = torch.stack([m.probs for m in largest]).mean(dim=0)
    end = tokens.end.to(probs.device)[:, None, None].expand(-1, most, 1)
    return probs.gather(2, end).reshape(len(probs), 1, *largest[0].size)


def masked_norm(difference: Float[Tensor, "n c h w"], mask: Float[Tensor, "n 1 h w"]) -> Float[Tensor, " n"]:
    """‖Δε ⊙ m‖₂ / mean(m). The scale of m makes no difference."""
    return per_sample_norm(difference * mask) / mask.mean(dim=(1, 2, 3)).clamp_min(torch.finfo(torch.float32).tiny)


class BrightEnding:
    """Mean over steps and noises of ‖Δε ⊙ m‖₂ / mean(m), with m the attention to the end token at the last step of the trajectory.

    Chen et al., ICLR 2025 (arXiv 2410.21665): where a training image is copied, the last step attends to the end token, and m
    weighs Δε by it. m is of the same sample as Δε and is brought to the size of the latents (nearest position) where the layer is
    smaller. The authors run the trajectory twice, once for m and once for Δε; once is enough, for both are of the same
    noise. Range [0, ∞); higher means memorized. 2 evaluations a step of the *whole* trajectory and noise, whatever ``steps``.

    Args:
        name: the name in the audit.
        steps: Δε of the first so many steps.
        seeds: starting noises a prompt.
        schedule_steps: length of the trailing-spaced DDIM schedule.
        guidance_scale: guidance along the trajectory.

    """

    direction = "higher"

    def __init__(
        self, *, name: str = "bright_ending", steps: int = 1, seeds: int = 1, schedule_steps: int = 50, guidance_scale: float = 7.5
    ) -> None:
        self.name = name
        self.steps = check_steps(steps, schedule_steps)
        self.seeds = check_seeds(seeds)
        self.schedule_steps = schedule_steps
        self.guidance_scale = guidance_scale
        self.evals_per_prompt = 2 * schedule_steps * seeds

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Scores ``[N]``, float32.

        Raises:
            BadInputError: If the batch does not say where its tokens lie.
            ModelError: If the model has no cross-attention.

        """
        tokens = batch.require_tokens(self.name)
        return torch.stack([self._score(denoiser, batch, tokens, seed) for seed in range(self.seeds)]).mean(dim=0)

    def _score(self, denoiser: Denoiser, batch: ProbeBatch, tokens: TokenLayout, seed: int) -> Tensor:
        differences, record = self._trajectory(denoiser, batch, seed)
        mask = interpolate(end_attention(record, tokens), size=batch.latents.shape[-2:], mode="nearest")
        return torch.stack([masked_norm(difference, mask) for difference in differences]).mean(dim=0)

    def _trajectory(self, denoiser: Denoiser, batch: ProbeBatch, seed: int) -> tuple[list[Tensor], CrossAttentionRecord]:
        """Δε of the first steps, and the attention of the last one."""
        steps = batch.trajectory(denoiser, seed, self.schedule_steps, self.guidance_scale)
        differences: list[Tensor] = []
        for place in range(self.schedule_steps - 1):
            text, uncond, _ = next(steps)
            if place < self.steps:
                differences.append(text - uncond)
        with denoiser.record_cross_attention() as record:
            text, uncond, _ = next(steps)
        return [*differences, text - uncond][: self.steps], record
