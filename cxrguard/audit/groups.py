"""The encoded groups that are judged: canaries, controls, ordinary members."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path

import torch
from torch import Tensor

from cxrguard.data.cache import open_cache
from cxrguard.data.encoded import CachedEncoder, ImageRows, to_pixel_values
from cxrguard.data.lazy import Joined, Mapped
from cxrguard.data.prepare import PromptedRecord, Study
from cxrguard.diffusion.encoding import encode_images, encode_prompts, token_layout
from cxrguard.diffusion.loading import PipelineParts
from cxrguard.errors import BadInputError
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.tokens import TokenLayout
from cxrguard.randomness import numpy_generator, prompt_key
from cxrguard.rows import FlatRows, Rows

MAX_NULL = 2000
"""Each is compared with every training image: 20 of them lie beyond a 1 % quantile, and more would cost more than they tell."""


@dataclass(frozen=True)
class Variant:
    """One way to write a group's prompts: ``states [N, L, D]``, a noise key each, and where their tokens lie.

    Where the text encoder is trained, ``prompts`` are encoded again by :meth:`Judged.encoded_by`, and ``base_states`` are what the
    encoder made of them before; never written anywhere.
    """

    states: Tensor
    keys: tuple[str, ...]
    tokens: TokenLayout | None = None
    prompts: tuple[str, ...] = field(default=(), repr=False)
    base_states: Tensor | None = None

    def take(self, rows: list[int]) -> Variant:
        """Some of the prompts."""
        return Variant(
            self.states[rows],
            tuple(self.keys[i] for i in rows),
            None if self.tokens is None else self.tokens[rows],
            tuple(self.prompts[i] for i in rows) if self.prompts else (),
            None if self.base_states is None else self.base_states[rows],
        )

    def encoded_by(self, encode: Callable[[Sequence[str]], Tensor]) -> Variant:
        """With the states that the text encoder makes now."""
        before = self.states if self.base_states is None else self.base_states
        return replace(self, states=encode(self.prompts), base_states=before)


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
        return replace(
            self,
            pixels=self.pixels[index] if self.has_images else self.pixels,
            latents=self.latents[index],
            variants=(self.variants[-1].take(index),),
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
    """Training images, and the real held-out images whose distances set the thresholds, flattened per space.

    They are looked at a block at a time, and so need not be in memory. ``owner [M]`` says whose image each training image is: its own
    row, or for a near copy of a canary the canary's; None where all are their own.
    """

    training: Mapping[str, Rows]
    null: Mapping[str, Rows]
    training_pixels: Rows
    owner: Tensor | None = None


@dataclass(frozen=True)
class Judged:
    """All that is judged in a run."""

    groups: dict[str, Group]
    references: References
    uncond_hidden_states: Tensor
    base_uncond: Tensor | None = None

    def encoded_by(self, encode: Callable[[Sequence[str]], Tensor]) -> Judged:
        """The same prompts as the text encoder reads them now; ``encode`` gives hidden states ``[N, L, D]``."""
        groups = {name: replace(g, variants=tuple(v.encoded_by(encode) for v in g.variants)) for name, g in self.groups.items()}
        before = self.uncond_hidden_states if self.base_uncond is None else self.base_uncond
        return replace(self, groups=groups, uncond_hidden_states=encode([""]), base_uncond=before)

    def batch(self, group: str, variant: int, seed: int, scheduler_config: object) -> ProbeBatch:
        """One variant of a group as a probe sees it."""
        g = self.groups[group]
        v = g.variants[variant]
        batch = ProbeBatch(v.states, self.uncond_hidden_states, g.latents, v.keys, seed, scheduler_config, tokens=v.tokens)
        return replace(batch, base_hidden_states=v.base_states, base_uncond=self.base_uncond)


def build_judged(parts: PipelineParts, study: Study, n_members: int, seed: int, base_stage: Sequence[PromptedRecord] = ()) -> Judged:
    """Encode the groups once.

    Args:
        parts: the pipeline, for its VAE and text encoder.
        study: what is trained on and held out.
        n_members: ordinary members to judge, drawn by ``seed``.
        seed: see above.
        base_stage: what an earlier stage of this run was trained on; replaying it counts as well.

    """
    training = Joined(study.trained, base_stage)
    pick = sorted(numpy_generator("judged-members", seed).permutation(len(study.members))[:n_members].tolist())
    n = len(study.members)
    groups = {
        "canaries": _group(parts, "canaries", study.canaries, range(n, n + len(study.canaries)), study.repeats),
        "controls": _group(parts, "controls", study.controls, [-1] * len(study.controls), [0] * len(study.controls)),
        "members": _group(parts, "members", [study.members[i] for i in pick], pick, [1] * len(pick)),
    }
    if study.prompt_controls:
        groups["prompt_controls"] = _prompt_group(parts, study.prompt_controls, groups["controls"])
    references = _references(parts, training, null_images(study, seed), study.cache_dir)
    return Judged(groups, replace(references, owner=_owners(study, len(training))), encode_prompts(parts, [""]))


def _owners(study: Study, n_training: int) -> Tensor | None:
    if not study.copies:
        return None
    owner, n = torch.arange(n_training), len(study.members)
    copies = n + len(study.canaries)
    owner[copies : copies + len(study.copies)] = n + torch.tensor(study.copy_of)
    return owner


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
    prompts = [s.record.prompt for s in samples]
    return _without_images("prompt_controls", prompts, [s.record.subject_id for s in samples], _variants(parts, samples), like)


def validation_group(parts: PipelineParts, prompts: Sequence[str], like: Group) -> Group:
    """The user's own prompts in their own wording: no image, no patient. ``like`` gives the shape of images and latents."""
    return _without_images("validation", prompts, [""] * len(prompts), (_variant(parts, list(prompts), list(prompts)),), like)


def _without_images(name: str, prompts: Sequence[str], subjects: Sequence[str], variants: tuple[Variant, ...], like: Group) -> Group:
    n = len(prompts)
    latents = like.latents.new_zeros(n, *like.latents.shape[1:])
    return Group(name, like.pixels[:0], latents, variants, torch.full((n,), -1), tuple(subjects), (0,) * n, tuple(prompts))


def _variants(parts: PipelineParts, samples: Sequence[PromptedRecord]) -> tuple[Variant, ...]:
    originals, trained = [s.record.prompt for s in samples], [s.sanitized for s in samples]
    if originals == trained:
        return (_variant(parts, originals, originals),)
    # Samples that share a caption must not share their noise: they would be one attack, counted as many.
    shared = len(set(trained)) < len(trained)
    noise_of = [f"{o}\n{t}" for o, t in zip(originals, trained, strict=True)] if shared else trained
    return _variant(parts, originals, originals), _variant(parts, trained, noise_of)


def _variant(parts: PipelineParts, prompts: list[str], noise_of: list[str]) -> Variant:
    """Prompts, and the texts that their noise is a function of."""
    keys = tuple(prompt_key(text) for text in noise_of)
    return Variant(encode_prompts(parts, prompts), keys, token_layout(parts.tokenizer, prompts), tuple(prompts))


def null_images(study: Study, seed: int) -> list[PromptedRecord]:
    """The real held-out images whose distances set the thresholds: all, or :data:`MAX_NULL` of them drawn by ``seed``."""
    real = Joined(study.controls, study.heldout)
    if len(real) <= MAX_NULL:
        return list(real)
    return [real[i] for i in sorted(numpy_generator("null", seed).permutation(len(real))[:MAX_NULL].tolist())]


def _references(
    parts: PipelineParts, training: Sequence[PromptedRecord], real: Sequence[PromptedRecord], cache_dir: Path | None
) -> References:
    pixels = {name: Mapped(samples, attrgetter("pixels")) for name, samples in (("training", training), ("null", real))}
    images = {name: ImageRows(each) for name, each in pixels.items()}
    with open_cache(cache_dir) as cache:
        encoder = CachedEncoder(parts, cache)
        flat = {name: {"pixels": FlatRows(images[name]), "latents": FlatRows(encoder.latents(pixels[name]))} for name in pixels}
    return References(flat["training"], flat["null"], images["training"])
