"""A judge under a mitigation at inference: the same prompts, noise and thresholds, and what the mitigation makes of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from cxrguard.audit.evaluate import Evaluator, Generated
from cxrguard.audit.extraction import Replays
from cxrguard.audit.groups import Group, Variant
from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.diffusion.encoding import encode_prompts, token_layout
from cxrguard.mitigations.inference.base import InferenceMitigation, Start, Vocabulary
from cxrguard.mitigations.inference.generate import MitigatedSampler
from cxrguard.probes.batch import Probe, ProbeBatch
from cxrguard.probes.tokens import TokenLayout

Mask = NDArray[np.bool_]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class MitigatedSamples:
    """What was generated under a mitigation.

    Attributes:
        generated: as without it; what was withheld replays nothing.
        withheld: prompts by wording that nothing is generated from, ``[N, V]``.
        evaluations: UNet evaluations of a prompt's samples in one wording, mean over prompts and wordings.

    """

    generated: Generated
    withheld: Mask
    evaluations: float


class MitigatedGroup:
    """One group of prompts under a mitigation; their noise is that without it.

    Args:
        evaluator: the judge without it.
        mitigation: what is done.
        name: of the group.
        vocabulary: what random words are drawn from.

    """

    def __init__(self, evaluator: Evaluator, mitigation: InferenceMitigation, name: str, vocabulary: Vocabulary) -> None:
        group = evaluator.judged.groups[name]
        rewritten = [_rewritten(evaluator, mitigation, variant, vocabulary) for variant in group.variants]
        self._group = replace(group, variants=tuple(variant for variant, _ in rewritten))
        self.withheld: Mask = np.stack([withheld for _, withheld in rewritten], axis=1)
        self._evaluator = copy.copy(evaluator)
        self._evaluator.judged = replace(evaluator.judged, groups={name: self._group})
        self._mitigation, self._name = mitigation, name

    def generate(self, denoiser: Denoiser, k: int, on_batch: Callable[[int], None] | None = None) -> MitigatedSamples:
        """``k`` samples a prompt and wording, and what they replay."""
        sampler = _Sampler(self._evaluator.sampler, self._mitigation, _layouts(self._group, k))
        evaluator: Any = copy.copy(self._evaluator)
        evaluator.sampler = sampler
        generated: Generated = evaluator.generate(denoiser, self._name, k, on_batch)
        made = torch.from_numpy(~self.withheld)[:, None].expand(-1, k, -1).flatten(1)
        replays = {space: _only(made, found) for space, found in generated.replays.items()}
        evaluations = torch.cat(sampler.evaluations).reshape(made.shape)[made]
        mean = float(evaluations.double().sum()) / max(self.withheld.size, 1)
        return MitigatedSamples(replace(generated, replays=replays), self.withheld, mean)

    @torch.no_grad()
    def score(self, denoiser: Denoiser, probe: Probe) -> Scores:
        """Scores ``[N]`` of the mitigated inputs; of a prompt's wordings the one that looks more memorized, NaN if all are withheld."""
        worst = np.fmax if probe.direction == "higher" else np.fmin
        columns = [self._score_variant(denoiser, probe, v) for v in range(len(self._group.variants))]
        return np.asarray(worst.reduce(np.stack(columns), axis=0))

    def _score_variant(self, denoiser: Denoiser, probe: Probe, variant: int) -> Scores:
        evaluator = self._evaluator
        batch = replace(
            evaluator.judged.batch(self._name, variant, evaluator.seed, evaluator.sampler.scheduler_config), base=evaluator.base
        )
        scores = [self._score_part(denoiser, probe, part) for part in batch.split(evaluator.batch_size)]
        return np.where(self.withheld[:, variant], np.nan, torch.cat(scores).double().numpy())

    def _score_part(self, denoiser: Denoiser, probe: Probe, part: ProbeBatch) -> Tensor:
        start = Start(part.encoder_hidden_states, part.uncond_hidden_states, part.noise(0), part.tokens)
        steered = self._mitigation.steer(denoiser, start)
        return probe(steered, mitigated_batch(steered, self._mitigation, part)).cpu()


def mitigated_batch(denoiser: Denoiser, mitigation: InferenceMitigation, batch: ProbeBatch) -> ProbeBatch:
    """The batch as a probe sees it under a mitigation of embedding or noise; the embedding is the one that is found at the first noise."""
    if not {"embedding", "noise"} & set(mitigation.acts_on):
        return batch
    values = {name: getattr(batch, name) for name in ProbeBatch.__dataclass_fields__}
    moved = _MovedBatch(**values, mitigation=mitigation, denoiser=denoiser, given=batch)
    return replace(moved, encoder_hidden_states=moved.prepared(0).encoder_hidden_states)


@dataclass(frozen=True)
class _MovedBatch(ProbeBatch):
    """Its noises are those that the mitigation makes of the batch's own."""

    mitigation: Any = None
    denoiser: Any = None
    given: Any = None

    def prepared(self, draw: int) -> Start:
        given: ProbeBatch = self.given
        start = Start(given.encoder_hidden_states, given.uncond_hidden_states, given.noise(draw), given.tokens)
        mitigation: InferenceMitigation = self.mitigation
        return mitigation.prepare(self.denoiser, start, given.timesteps(1)[0])[0]

    def noise(self, draw: int) -> Float[Tensor, "n c h w"]:
        """See :meth:`ProbeBatch.noise`."""
        return self.prepared(draw).noise if "noise" in self.mitigation.acts_on else super().noise(draw)


class _Sampler:
    """Stands in for the evaluator's sampler, and is given all samples in its order."""

    def __init__(self, sampler: Any, mitigation: InferenceMitigation, tokens: TokenLayout | None) -> None:
        self.scheduler_config, self.steps = sampler.scheduler_config, sampler.steps
        self._sample = MitigatedSampler(sampler.scheduler_config, sampler.steps, sampler.guidance_scale)
        self._batch_size, self._mitigation, self._tokens = sampler.batch_size, mitigation, tokens
        self.evaluations: list[Tensor] = []

    def __call__(
        self, denoiser: Denoiser, states: Tensor, uncond: Tensor, noise: Tensor, on_batch: Callable[[int], None] | None = None
    ) -> Tensor:
        parts = []
        for first in range(0, len(noise), self._batch_size):
            rows = slice(first, first + self._batch_size)
            tokens = None if self._tokens is None else self._tokens[rows]
            found = self._sample(denoiser, self._mitigation, Start(states[rows], uncond, noise[rows], tokens))
            parts.append(found.latents)
            self.evaluations.append(found.evaluations)
            if on_batch:
                on_batch(len(found.latents))
        return torch.cat(parts) if parts else noise


def _rewritten(evaluator: Evaluator, mitigation: InferenceMitigation, variant: Variant, vocabulary: Vocabulary) -> tuple[Variant, Mask]:
    """A wording as the mitigation writes it, under its own noise, and which prompts are withheld (the empty prompt stands there)."""
    if "prompt" not in mitigation.acts_on:
        return variant, np.zeros(len(variant.keys), dtype=bool)
    texts = mitigation.rewrite(variant.prompts, evaluator.seed, vocabulary)
    written = [text or "" for text in texts]
    changed = replace(variant, states=encode_prompts(evaluator.parts, written), tokens=token_layout(evaluator.parts.tokenizer, written))
    return changed, np.array([text is None for text in texts], dtype=bool)


def _layouts(group: Group, k: int) -> TokenLayout | None:
    """Of all samples: prompt by prompt, draw by draw, wording by wording."""
    layouts = [variant.tokens for variant in group.variants if variant.tokens is not None]
    if len(layouts) < len(group.variants):
        return None
    begin, end = (
        torch.stack([getattr(layout, name) for layout in layouts], dim=1)[:, None].expand(-1, k, -1).flatten() for name in ("begin", "end")
    )
    return TokenLayout(begin, end, layouts[0].length)


def _only(made: Tensor, found: Replays) -> Replays:
    """Without what was withheld."""
    return replace(found, own=found.own & made, any=found.any & made)
