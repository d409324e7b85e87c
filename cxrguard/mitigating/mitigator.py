"""Prompts under each mitigation, with the same noise: score, cost, and what their samples look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.encoding import decode_latents
from cxrguard.mitigating.catalogue import NONE
from cxrguard.mitigations.inference.base import InferenceMitigation, Start
from cxrguard.mitigations.inference.generate import Generated, MitigatedSampler
from cxrguard.mitigations.inference.vocabulary import TokenizerVocabulary
from cxrguard.probes.batch import ProbeBatch
from cxrguard.randomness import prompt_key
from cxrguard.scoring.model import ScoringModel, fits_in_memory

Images = Mapping[str, Tensor]
"""Images ``[1, H, W]`` in [-1, 1] of a prompt, by what they are called."""


@dataclass(frozen=True)
class Outcome:
    """A prompt under a mitigation.

    Attributes:
        text: what was generated from; None for a prompt that was withheld, of which all else but ``evaluations`` is None or empty.
        text_noise_norm: mean over the noises of ‖Δε‖₂ at the first step of the mitigated inputs. Higher means memorized.
        evaluations: UNet evaluations that all of the prompt's samples took.
        change: mean squared pixel distance of the samples from those of the same noise without a mitigation: what it costs in fidelity.
        own_distance: mean squared pixel distance of the nearest sample to each of the prompt's images, by its name.

    """

    text: str | None = field(repr=False)
    text_noise_norm: float | None = None
    evaluations: int = 0
    change: float | None = None
    own_distance: Mapping[str, float] = field(default_factory=dict, repr=False)


class Mitigator:
    """Runs mitigations over prompts.

    Args:
        model: the model.
        mitigations: what is to be compared; that without any comes first.
        sampler: how samples are generated.
        seed: of the noise, which is that of ``cxrguard score``, and of the mitigations.
        draws: samples a prompt.
        batch_size: samples at once.

    """

    def __init__(
        self,
        model: ScoringModel,
        mitigations: Sequence[InferenceMitigation],
        sampler: MitigatedSampler,
        seed: int,
        draws: int,
        batch_size: int,
    ) -> None:
        self._model, self._mitigations, self._sampler = model, tuple(mitigations), sampler
        self._seed, self._draws, self._batch_size = seed, draws, batch_size
        self._vocabulary = TokenizerVocabulary(model.parts.tokenizer)

    def __call__(self, prompts: Sequence[str], images: Sequence[Images] | None = None) -> list[dict[str, Outcome]]:
        """One for each prompt, by mitigation, ``none`` first.

        Args:
            prompts: none of them empty.
            images: of each prompt.

        Raises:
            CxrguardError: If the model cannot be used for it, or runs out of memory.

        """
        plain = self._run(InferenceMitigation(), list(prompts), range(len(prompts)), prompts)
        found = {NONE: self._told(plain, plain, prompts, images)}
        for mitigation in self._mitigations:
            if mitigation.name != NONE:
                texts = mitigation.rewrite(prompts, self._seed, self._vocabulary)
                found[mitigation.name] = self._told(self._under(mitigation, prompts, texts, plain), plain, texts, images)
        return [{name: outcomes[i] for name, outcomes in found.items()} for i in range(len(prompts))]

    def _under(self, mitigation: InferenceMitigation, prompts: Sequence[str], texts: Sequence[str | None], plain: _Samples) -> _Samples:
        """What is generated anew is what the mitigation changes: a prompt that it leaves as it is would give the same samples."""
        kept = mitigation.acts_on == ("prompt",)
        rows = [i for i, text in enumerate(texts) if text is not None and not (kept and text == prompts[i])]
        made = replace(plain, norms=plain.norms.clone(), evaluations=plain.evaluations.clone(), pixels=plain.pixels.clone())
        if rows:
            new = self._run(mitigation, [str(texts[i]) for i in rows], rows, prompts)
            made.norms[rows], made.evaluations[rows], made.pixels[rows] = new.norms, new.evaluations, new.pixels
        return made

    def _run(self, mitigation: InferenceMitigation, texts: Sequence[str], rows: Sequence[int], prompts: Sequence[str]) -> _Samples:
        batch = replace(self._model.batch(texts, self._seed), keys=tuple(prompt_key(prompts[i]) for i in rows))
        noise = torch.stack([batch.noise(draw) for draw in range(self._draws)], dim=1).flatten(0, 1)
        owners = torch.arange(len(texts)).repeat_interleave(self._draws)
        with fits_in_memory(self._batch_size):
            parts = [
                self._sampler(self._model.denoiser, mitigation, _start(batch, own, part))
                for own, part in zip(owners.split(self._batch_size), noise.split(self._batch_size), strict=True)
            ]
            pixels = torch.cat([decode_latents(self._model.parts, part.latents).cpu() for part in parts])
        return _Samples.of(parts, pixels, self._draws)

    def _told(self, made: _Samples, plain: _Samples, texts: Sequence[str | None], images: Sequence[Images] | None) -> list[Outcome]:
        change = (made.pixels - plain.pixels).square().flatten(1).mean(dim=1)
        return [
            Outcome(None)
            if text is None
            else Outcome(
                text,
                float(made.norms[i].mean()),
                int(made.evaluations[i].sum()),
                float(change[i]),
                {name: own_distance(made.pixels[i], image) for name, image in (images[i] if images else {}).items()},
            )
            for i, text in enumerate(texts)
        ]


@dataclass(frozen=True)
class _Samples:
    """``norms [N, K]``, ``evaluations [N, K]``, ``pixels [N, K, 1, H, W]``."""

    norms: Tensor
    evaluations: Tensor
    pixels: Tensor

    @classmethod
    def of(cls, parts: Sequence[Generated], pixels: Tensor, draws: int) -> _Samples:
        """Samples that were made in parts, a prompt's side by side."""
        norms, evaluations = torch.cat([p.first_norm.cpu() for p in parts]), torch.cat([p.evaluations for p in parts])
        return cls(norms.reshape(-1, draws), evaluations.reshape(-1, draws), pixels.reshape(-1, draws, *pixels.shape[1:]))


def _start(batch: ProbeBatch, own: Tensor, noise: Tensor) -> Start:
    states = batch.encoder_hidden_states[own.to(batch.encoder_hidden_states.device)]
    return Start(states, batch.uncond_hidden_states, noise, None if batch.tokens is None else batch.tokens[own])


def own_distance(samples: Float[Tensor, "k 1 h w"], image: Float[Tensor, "1 h w"]) -> float:
    """Mean squared pixel distance of the nearest sample to ``image``, both in [-1, 1]; range [0, 4], lower means replayed."""
    return float((samples - image[None]).square().flatten(1).mean(dim=1).min())
