"""Rows that belong together, from pairs of rows, and what such groups count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class Labels:
    """A label for each of ``n`` items, equal for items that are joined: the smallest item of the group.

    Joining is vectorised: many pairs at once cost little more than one.
    """

    def __init__(self, n: int) -> None:
        self.labels: NDArray[np.int64] = np.arange(n)

    def apart(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the pairs are not joined yet."""
        return np.asarray(self.labels[a] != self.labels[b])

    def join(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
        """Join ``a[i]`` with ``b[i]``, for every i."""
        while True:
            low, high = np.minimum(self.labels[a], self.labels[b]), np.maximum(self.labels[a], self.labels[b])
            if (low == high).all():
                return
            np.minimum.at(self.labels, high, low)  # every label is an item with that label, so this hangs whole groups together
            while (self.labels[self.labels] != self.labels).any():
                self.labels = self.labels[self.labels]


def group_equal(keys: Iterable[Hashable]) -> list[list[int]]:
    """All rows by key, in the order of first appearance; most groups have one row."""
    groups: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    return list(groups.values())


@dataclass(frozen=True)
class Groups:
    """Groups of rows that are alike, with what matters about them.

    Attributes:
        rows: the rows of each group of two or more, sorted.
        across_patients: pairs inside a group whose patients differ.
        across_splits: pairs inside a group whose splits differ.

    """

    rows: list[list[int]]
    across_patients: int
    across_splits: int

    @property
    def samples(self) -> int:
        """Rows in any group."""
        return sum(map(len, self.rows))


def count_groups(rows: Iterable[Sequence[int]], subjects: Sequence[str], splits: Sequence[str]) -> Groups:
    """Groups with their counts; groups of one row are left out."""
    kept = sorted(sorted(group) for group in rows if len(group) > 1)
    across = [sum(_pairs_apart([names[i] for i in group]) for group in kept) for names in (subjects, splits)]
    return Groups(kept, across[0], across[1])


def _pairs_apart(names: Sequence[str]) -> int:
    """Pairs of different names, without listing them: a group may have 20,000 rows."""
    return len(names) * (len(names) - 1) // 2 - sum(n * (n - 1) // 2 for n in Counter(names).values())
