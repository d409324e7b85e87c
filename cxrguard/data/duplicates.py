"""Exact and near duplicates of images and of prompts, found and counted before training.

A training image that is there many times is memorized first, and one that is in the held-out part too makes every comparison of the
two parts wrong. So a run says how many there are; only counts leave this module's results for a log.

Measured by ``pytest -s tests/unit/data/test_duplicates_real.py`` (skipped without ``../shared``) on NIH ChestX-ray14 and Open-I:

- Of 100 altered copies among 500 images, found at 64 (256) pixels a side: crop of up to 3 % a side 98 % (98 %), gamma 0.7 to 1.4,
  contrast 0.7 to 1.3 with brightness, and JPEG of quality 20 to 60 all 100 % (100 %), crop, gamma and JPEG together 97 % (98 %).
- Of the 498,823 pairs of images of different patients none is taken for a copy.
- Of 100 reports with a word replaced, a marker put in, other stops and all in capitals, all are found among 1,410 of 40 words or more.

On one thread of a busy machine 100,000 prompts take 15 s. 20,000 images take 10 s for all with all; 100,000 would take 4 minutes, and
5 to 10 more for the closer look at about 100,000 pairs (of the 499,500 pairs above 10 need one, at 3 to 6 ms).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from cxrguard.data.grouping import Groups, count_groups, group_equal
from cxrguard.data.lazy import Selected
from cxrguard.data.near_images import find_near_images
from cxrguard.data.near_prompts import find_near_prompts, fold


@dataclass(frozen=True)
class Duplicates:
    """What was found. A near group holds the exact copies of its members too; there is none without two that differ.

    Attributes:
        exact_images: images with the same pixels.
        near_images: see :mod:`cxrguard.data.near_images`.
        exact_prompts: prompts that are the same but for case and white space.
        near_prompts: see :mod:`cxrguard.data.near_prompts`.
        unchecked_image_pairs: pairs that may be near copies and were one too many to look at; 0 but for images that are all alike.

    """

    exact_images: Groups = field(repr=False)
    near_images: Groups = field(repr=False)
    exact_prompts: Groups = field(repr=False)
    near_prompts: Groups = field(repr=False)
    unchecked_image_pairs: int = 0

    def __str__(self) -> str:
        """One line of counts, for a terminal."""
        kinds = [
            f"{name.replace('_', ' ')} {_count(getattr(self, name))}"
            for name in ("exact_images", "near_images", "exact_prompts", "near_prompts")
        ]
        return "duplicates: " + "; ".join(kinds)

    def summary(self) -> dict[str, int]:
        """Counts only: for each kind, e.g. ``exact_images_groups``, ``_samples``, ``_pairs_across_patients``, ``_pairs_across_splits``."""
        counts: dict[str, int] = {}
        for item in fields(self):
            found = getattr(self, item.name)
            if isinstance(found, Groups):
                counts[f"{item.name}_groups"] = len(found.rows)
                counts[f"{item.name}_samples"] = found.samples
                counts[f"{item.name}_pairs_across_patients"] = found.across_patients
                counts[f"{item.name}_pairs_across_splits"] = found.across_splits
        return counts | {"unchecked_image_pairs": self.unchecked_image_pairs}


def _count(groups: Groups) -> str:
    if not groups.rows:
        return "none"
    across = f", {groups.across_patients} pairs of different patients, {groups.across_splits} across the split"
    return f"{groups.samples} in {len(groups.rows)} groups" + across


def find_duplicates(
    pixels: Sequence[NDArray[np.uint8]], prompts: Sequence[str], subjects: Sequence[str], splits: Sequence[str]
) -> Duplicates:
    """Find duplicates among samples.

    Args:
        pixels: uint8 ``[H, W]`` each, as a list or a (memory-mapped) array; read one after the other.
        prompts: one a sample.
        subjects: the patient of each.
        splits: the part of each, e.g. ``train`` or ``heldout``.

    Raises:
        ValueError: they differ in length.

    """
    if not len(pixels) == len(prompts) == len(subjects) == len(splits):
        raise ValueError(f"one of each a sample, not {len(pixels)} pixels, {len(prompts)} prompts, {len(subjects)}, {len(splits)}")
    images = group_equal(_digest(pixels[row]) for row in range(len(pixels)))
    near = find_near_images(pixels, [group[0] for group in images])
    texts = group_equal(hashlib.blake2b(fold(prompt).encode("utf-8", "surrogatepass"), digest_size=16).digest() for prompt in prompts)
    near_texts = find_near_prompts(Selected(prompts, [group[0] for group in texts]))
    return Duplicates(
        count_groups(images, subjects, splits),
        count_groups(_merged(images, near.labels), subjects, splits),
        count_groups(texts, subjects, splits),
        count_groups(_merged(texts, near_texts), subjects, splits),
        near.unchecked,
    )


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16, person=b"%dx%d" % image.shape).digest()


def _merged(groups: Sequence[Sequence[int]], labels: NDArray[np.int64]) -> list[list[int]]:
    """All rows of the groups that have a label in common; [] for a label of one group."""
    together: dict[int, list[Sequence[int]]] = {}
    for group, label in zip(groups, labels.tolist(), strict=True):
        together.setdefault(label, []).append(group)
    return [[row for group in some for row in group] for some in together.values() if len(some) > 1]
