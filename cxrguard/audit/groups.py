"""The encoded groups that are judged: canaries, controls, ordinary members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cxrguard.data.datamodule import to_pixel_values
from cxrguard.data.prepare import PromptedRecord, Study
from cxrguard.diffusion.encoding import encode_images, encode_prompts, token_layout
from cxrguard.diffusion.loading import PipelineParts
from cxrguard.errors import BadInputError
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.tokens import TokenLayout
from cxrguard.randomness import numpy_generator, prompt_key


@dataclass(frozen=True)
class Variant:
    """One way to write a group's prompts: ``states [N, L, D]``, a noise key each, and where their tokens lie."""

    states: Tensor
    keys: tuple[str, ...]
    tokens: TokenLayout | None = None


@dataclass(frozen=True)
class Group:
    """Prompts with their images.

    Attributes:
        name: ``canaries``, ``controls``, ``members`` or ``prompt_controls``.
        pixels: ``[N, 1, H, W]`` in [-1, 1]; of prompts without an image ``[0, 1, H, W]``.
        latents: ``[N, C, h, w]``; of prompts without an image zeros, which tell a probe the shape of its noise.
        variants: the original prompts, and the sanitized ones where they differ: an attacker may use either.
        own_index: row of each prompt's own image among the training images, −1 for controls.
        subjects: patients, to cluster intervals by; never written anywhere.
        repeats: showings an epoch.
        prompts: original prompts, for pseudonyms; never written anywhere.

    """

    name: str
    pixels: Tensor
    latents: Tensor
    variants: tuple[Variant, ...]
    own_index: Tensor
    subjects: tuple[str, ...]
    repeats: tuple[int, ...]
    prompts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.subjects)

    def take(self, rows: Sequence[int]) -> Group:
        """Some prompts of the group, in the wording that was trained on alone."""
        index = list(rows)
        last = self.variants[-1]
        variant = Variant(last.states[index], tuple(last.keys[i] for i in index), None if last.tokens is None else last.tokens[index])
        return replace(
            self,
            pixels=self.pixels[index] if self.has_images else self.pixels,
            latents=self.latents[index],
            variants=(variant,),
            own_index=self.own_index[index],
            subjects=tuple(self.subjects[i] for i in index),
            repeats=tuple(self.repeats[i] for i in index),
            prompts=tuple(self.prompts[i] for i in index),
        )

    @property
    def has_images(self) -> bool:
        """Whether the prompts have images of their own; the prompt-only controls have none."""
        return len(self.pixels) == len(self)


@dataclass(frozen=True)
class References:
    """Training images, and the real held-out images whose distances set the thresholds, flattened per space."""

    training: dict[str, Tensor]
    null: dict[str, Tensor]
    training_pixels: Tensor


@dataclass(frozen=True)
class Judged:
    """All that is judged in a run."""

    groups: dict[str, Group]
    references: References
    uncond_hidden_states: Tensor

    def batch(self, group: str, variant: int, seed: int, scheduler_config: object) -> ProbeBatch:
        """One variant of a group as a probe sees it."""
        g = self.groups[group]
        v = g.variants[variant]
        return ProbeBatch(v.states, self.uncond_hidden_states, g.latents, v.keys, seed, scheduler_config, tokens=v.tokens)


def build_judged(parts: PipelineParts, study: Study, n_members: int, seed: int, base_stage: Sequence[PromptedRecord] = ()) -> Judged:
    """Encode the groups once.

    Args:
        parts: the pipeline, for its VAE and text encoder.
        study: what is trained on and held out.
        n_members: ordinary members to judge, drawn by ``seed``.
        seed: see above.
        base_stage: what an earlier stage of this run was trained on; replaying it counts as well.

    """
    training = [*study.members, *study.canaries, *base_stage]
    pick = sorted(numpy_generator("judged-members", seed).permutation(len(study.members))[:n_members].tolist())
    n = len(study.members)
    groups = {
        "canaries": _group(parts, "canaries", study.canaries, range(n, n + len(study.canaries)), study.repeats),
        "controls": _group(parts, "controls", study.controls, [-1] * len(study.controls), [0] * len(study.controls)),
        "members": _group(parts, "members", [study.members[i] for i in pick], pick, [1] * len(pick)),
    }
    if study.prompt_controls:
        groups["prompt_controls"] = _prompt_group(parts, study.prompt_controls, groups["controls"])
    references = _references(parts, training, [*study.controls, *study.heldout])
    return Judged(groups, references, encode_prompts(parts, [""]))


def _group(parts: PipelineParts, name: str, samples: Sequence[PromptedRecord], own_index: Sequence[int], repeats: Sequence[int]) -> Group:
    if not samples:
        raise BadInputError(f"the run has no {name} to judge with; set canaries.n and canaries.n_controls above 0")
    pixels = to_pixel_values([s.pixels for s in samples])
    return Group(
        name,
        pixels,
        encode_images(parts, pixels.expand(-1, 3, -1, -1)),
        _variants(parts, samples),
        torch.tensor(list(own_index)),
        tuple(s.record.subject_id for s in samples),
        tuple(repeats),
        tuple(s.record.prompt for s in samples),
    )


def _prompt_group(parts: PipelineParts, samples: Sequence[PromptedRecord], like: Group) -> Group:
    """Controls that are only prompts; those that borrow one patient's report count as that patient's in every interval."""
    n = len(samples)
    latents = like.latents.new_zeros(n, *like.latents.shape[1:])
    prompts = tuple(s.record.prompt for s in samples)
    subjects = tuple(s.record.subject_id for s in samples)
    return Group("prompt_controls", like.pixels[:0], latents, _variants(parts, samples), torch.full((n,), -1), subjects, (0,) * n, prompts)


def _variants(parts: PipelineParts, samples: Sequence[PromptedRecord]) -> tuple[Variant, ...]:
    wordings = [[s.record.prompt for s in samples], [s.sanitized for s in samples]]
    if wordings[0] == wordings[1]:
        wordings.pop()
    return tuple(Variant(encode_prompts(parts, w), tuple(prompt_key(p) for p in w), token_layout(parts.tokenizer, w)) for w in wordings)


def _references(parts: PipelineParts, training: Sequence[PromptedRecord], real: Sequence[PromptedRecord]) -> References:
    pixels = {name: to_pixel_values([s.pixels for s in samples]) for name, samples in (("training", training), ("null", real))}
    flat = {
        name: {"pixels": x.flatten(1), "latents": encode_images(parts, x.expand(-1, 3, -1, -1)).flatten(1).cpu()}
        for name, x in pixels.items()
    }
    return References(flat["training"], flat["null"], pixels["training"])
