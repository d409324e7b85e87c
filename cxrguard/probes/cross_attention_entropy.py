"""Ren's detector: how evenly the image attends to the tokens of the prompt."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.attention import CrossAttentionRecord
from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.errors import ModelError
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_difference import check_seeds

VARIANTS = ("E", "D")


def entropy(weights: Float[Tensor, "n l"]) -> Float[Tensor, " n"]:
    """−Σ_i p_i ln p_i, 0 ln 0 = 0; of some of the tokens their part of the sum."""
    total: Tensor = torch.special.entr(weights.float()).sum(dim=1)
    return total


def mean_attention(record: CrossAttentionRecord, layer: int | None) -> Float[Tensor, "n l"]:
    """ā: attention to each token, the mean over heads, positions and, without ``layer``, over layers (each counts the same).

    Raises:
        ModelError: If there are not so many layers.

    """
    maps = list(record.maps.values())
    if layer is not None and layer >= len(maps):
        raise ModelError(f"the model has {len(maps)} cross-attention layers, counted from 0; there is no layer {layer}")
    chosen = maps if layer is None else [maps[layer]]
    return torch.stack([m.probs.mean(dim=1) for m in chosen]).mean(dim=0)


class CrossAttentionEntropy:
    """Entropy of the mean attention ā to the tokens, averaged over noises.

    Ren et al., ECCV 2024 (arXiv 2403.11052), with H(ā) = −Σ_i ā_i ln ā_i:

    - ``"E"``: H at the first step. The authors take the fourth layer of Stable Diffusion 1 (``layer=3``). 1 evaluation a noise.
    - ``"D"``: the mean of H over the last steps + the rise of the summary tokens' part (end token and padding) to that mean from
      the first step, along the guided trajectory. 2 evaluations a step and noise.

    Range [0, ln L] for E, (−ln L, 2 ln L) for D; higher means memorized. L counts padding: scores of encoders of different lengths do
    not compare.

    Args:
        name: the name in the audit.
        variant: ``"E"`` or ``"D"``.
        layer: the one cross-attention layer to look at, counted from 0 in the order in which they run; all by default.
        seeds: starting noises a prompt.
        schedule_steps: length of the trailing-spaced DDIM schedule.
        last_steps: the steps at its end that D averages over; the authors' are 10 of 50.
        guidance_scale: guidance along the trajectory.

    """

    direction = "higher"

    def __init__(
        self,
        *,
        name: str = "cross_attention_entropy",
        variant: str = "E",
        layer: int | None = None,
        seeds: int = 4,
        schedule_steps: int = 50,
        last_steps: int = 10,
        guidance_scale: float = 7.5,
    ) -> None:
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, not {variant!r}")
        if layer is not None and layer < 0:
            raise ValueError(f"layer must be counted from 0, not {layer}")
        if variant == "D" and not 1 <= last_steps < schedule_steps:
            raise ValueError(f"last_steps must be 1 to schedule_steps - 1 ({schedule_steps - 1}), not {last_steps}")
        self.name = name
        self.variant = variant
        self.layer = layer
        self.seeds = check_seeds(seeds)
        self.schedule_steps = schedule_steps
        self.last_steps = last_steps
        self.guidance_scale = guidance_scale
        self.evals_per_prompt = seeds if variant == "E" else 2 * schedule_steps * seeds

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Float[Tensor, " n"]:
        """Scores ``[N]``, float32.

        Raises:
            BadInputError: If D is asked for and the batch does not say where its tokens lie.
            ModelError: If the model has no such cross-attention layer.

        """
        score = self._first if self.variant == "E" else self._late
        return torch.stack([score(denoiser, batch, seed) for seed in range(self.seeds)]).mean(dim=0)

    def _first(self, denoiser: Denoiser, batch: ProbeBatch, seed: int) -> Tensor:
        first = batch.timesteps(self.schedule_steps)[0]
        with denoiser.record_cross_attention() as record:
            denoiser.predict_noise(batch.noise(seed), batch.at(first, denoiser), batch.encoder_hidden_states)
        return entropy(mean_attention(record, self.layer))

    def _late(self, denoiser: Denoiser, batch: ProbeBatch, seed: int) -> Tensor:
        summary = batch.require_tokens(self.name).summary.to(batch.latents.device)
        first, *last = self._attention(denoiser, batch, seed)
        rise = torch.stack([entropy(weights * summary) for weights in last]).mean(dim=0) - entropy(first * summary)
        return torch.stack([entropy(weights) for weights in last]).mean(dim=0) + rise

    def _attention(self, denoiser: Denoiser, batch: ProbeBatch, seed: int) -> list[Tensor]:
        """ā of the first step and of the last ones."""
        steps = batch.trajectory(denoiser, seed, self.schedule_steps, self.guidance_scale)
        weights = []
        for place in range(self.schedule_steps):
            if 0 < place < self.schedule_steps - self.last_steps:
                next(steps)
                continue
            with denoiser.record_cross_attention() as record:
                next(steps)
            weights.append(mean_attention(record, self.layer))
        return weights
