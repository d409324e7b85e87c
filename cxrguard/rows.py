"""Rows of tensors that need not be in memory: what is asked of them, and how to make them when they are asked for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")
_BLOCK_ELEMENTS = 2**21  # 8 MiB of float32 at once: 512 images of 64 pixels a side, 8 of 512


class Rows(Protocol):
    """``[N, ...]``, a few at a time. A tensor is one; so is :class:`LazyRows`."""

    @property
    def shape(self) -> Sequence[int]:
        """N, then the shape of a row."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Tensor: ...

    def split(self, size: int, /) -> Iterable[Tensor]:
        """All rows in order, at most ``size`` at once."""
        ...


def block_rows(rows: Rows) -> int:
    """How many rows to look at in one go, so that memory does not depend on how many there are."""
    return max(_BLOCK_ELEMENTS // max(math.prod(rows.shape[1:]), 1), 1)


class LazyRows(ABC):
    """Rows that are made when they are asked for; subclasses say how.

    Attributes:
        shape: N, then the shape of a row.

    """

    shape: tuple[int, ...]

    @abstractmethod
    def read(self, indices: Sequence[int]) -> Tensor:
        """The rows ``[len(indices), ...]``, each index in [0, N)."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any, /) -> Tensor:
        """A row by its number; rows by a slice, a list or a tensor of numbers.

        Raises:
            IndexError: a number lies outside [−N, N).

        """
        numbers = range(len(self))
        if isinstance(index, slice):
            return self.read(numbers[index])
        if isinstance(index, int):
            return self.read([numbers[index]])[0]
        return self.read([numbers[int(i)] for i in index])

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def split(self, size: int, /) -> Iterator[Tensor]:
        """All rows in order, at most ``size`` at once."""
        return (self[start : start + size] for start in range(0, len(self), size))


class FlatRows(LazyRows):
    """Each row of ``rows`` as a vector."""

    def __init__(self, rows: LazyRows) -> None:
        self._rows = rows
        self.shape = (len(rows), math.prod(rows.shape[1:]))

    def read(self, indices: Sequence[int]) -> Tensor:
        """See :meth:`LazyRows.read`."""
        return self._rows.read(indices).reshape(len(indices), self.shape[1])


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """``items`` in order, at most ``size`` at once."""
    return (items[start : start + size] for start in range(0, len(items), size))
