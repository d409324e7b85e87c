"""Which prompts share most of their wording: Jaccard's coefficient of their pairs of neighbouring words.

Candidates come from MinHash signatures in bands (Broder 1997; Leskovec et al., *Mining of Massive Datasets*, 3.4), so that the work
grows with the number of prompts and not with its square; a candidate counts only if its exact coefficient reaches the bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cxrguard.data.grouping import Labels
from cxrguard.progress import shown
from cxrguard.randomness import derive_seed

JACCARD = 0.8
# A pair with coefficient s is a candidate with probability 1 - (1 - s^5)^20: 0.9996 at the bound, 0.47 at 0.5.
_BANDS, _ROWS = 20, 5
_LEADERS = 8  # most prompts of a bucket that each further one is compared with
_WORD = re.compile(r"\w+")
_SPREAD = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]


def fold(prompt: str) -> str:
    """The prompt without differences of case and white space."""
    return " ".join(prompt.casefold().split())


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    """Shared pairs of words among all of both, in [0, 1]; 1 means the same."""
    shared = len(a & b)
    return shared / max(len(a) + len(b) - shared, 1)


def find_near_prompts(prompts: Sequence[str]) -> NDArray[np.int64]:
    """Label prompts; those with a coefficient of ``JACCARD`` or more share a label, and so do theirs in turn.

    Prompts without a word are like no other. Case, white space and punctuation make no difference.
    """
    labels = Labels(len(prompts))
    pairs, starts, rows = _word_pairs(prompts)
    if len(rows) < 2:
        return labels.labels
    for keys in shown("comparing prompts", _bands(pairs, starts), _BANDS):
        found: list[tuple[int, int]] = []
        for bucket in _buckets(keys):
            if labels.apart(rows[bucket[:1]], rows[bucket]).any():
                found.extend(_alike(bucket, pairs, starts))
        first, second = rows[np.array(found, np.int64).reshape(-1, 2).T]
        labels.join(first, second)
    return labels.labels


def _word_pairs(prompts: Sequence[str]) -> tuple[Hashes, NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of neighbouring words of all prompts, one after the other; where each prompt's start; which prompts have any."""
    numbers: dict[str, int] = {}
    chunks: list[Hashes] = []
    rows: list[int] = []
    for row, prompt in enumerate(prompts):
        words = np.array([0, *(numbers.setdefault(word, len(numbers) + 1) for word in _WORD.findall(prompt.casefold()))], np.uint64)
        if len(words) > 1:
            chunks.append(np.unique(words[:-1] << np.uint64(32) | words[1:]))
            rows.append(row)
    starts = np.concatenate([[0], np.cumsum([len(chunk) for chunk in chunks])]).astype(np.int64)
    return np.concatenate([np.zeros(0, np.uint64), *chunks]), starts, np.array(rows, np.int64)


def _bands(pairs: Hashes, starts: NDArray[np.int64]) -> Iterator[Hashes]:
    """For each band a key a prompt; alike prompts have an equal key in some band."""
    generator = np.random.default_rng(derive_seed("near prompts"))
    mixed = _mix(pairs)
    for _ in range(_BANDS):
        key = np.zeros(len(starts) - 1, np.uint64)
        for _ in range(_ROWS):
            odd, shift = generator.integers(0, 2**64, 2, dtype=np.uint64)
            smallest = np.minimum.reduceat(mixed * (odd | np.uint64(1)) + shift, starts[:-1])
            key = _mix(key * _SPREAD + smallest)
        yield key


def _mix(values: Hashes) -> Hashes:
    """Spread the bits of each value over all 64 (splitmix64)."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ values >> np.uint64(31), np.uint64)


def _buckets(keys: Hashes) -> Iterator[NDArray[np.int64]]:
    """The prompts of each key that two or more have."""
    order = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[order])) + 1
    for bucket in np.split(order, edges):
        if len(bucket) > 1:
            yield bucket


def _alike(bucket: NDArray[np.int64], pairs: Hashes, starts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """The bucket's prompts that are alike; each is compared with the latest of those that were unlike all before."""
    leaders: list[tuple[int, frozenset[int]]] = []
    for item in bucket:
        own = frozenset(pairs[starts[item] : starts[item + 1]].tolist())
        alike = [leader for leader, words in leaders if jaccard(own, words) >= JACCARD]
        yield from ((leader, int(item)) for leader in alike)
        if not alike:
            leaders = [*leaders[-(_LEADERS - 1) :], (int(item), own)]
