"""Sequences whose items are made when they are asked for, so that memory does not depend on how many there are."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
U = TypeVar("U")


class Keep(Protocol):
    """Keeps items that come one after the other: ``list`` in memory, :class:`~cxrguard.data.spool.Spools` in files."""

    def __call__(self, items: Iterable[T], /) -> Sequence[T]:
        """All ``items``, in order."""
        ...


class LazySequence(Sequence[T]):
    """Like a list that nobody changes; subclasses say how long it is and what its items are."""

    @abstractmethod
    def item(self, index: int) -> T:
        """The item at ``index`` in [0, N)."""

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        """An item, or a list of some.

        Raises:
            IndexError: a number lies outside [−N, N).

        """
        numbers = range(len(self))
        return [self.item(i) for i in numbers[index]] if isinstance(index, slice) else self.item(numbers[index])

    def __iter__(self) -> Iterator[T]:
        return (self.item(i) for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Whether another sequence has equal items in the same order."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)}>"  # never the items: they may be report text


class Mapped(LazySequence[U]):
    """``make`` of each item of ``items``."""

    def __init__(self, items: Sequence[T], make: Callable[[T], U]) -> None:
        self._items: Sequence[Any] = items
        self._make: Callable[[Any], U] = make

    def __len__(self) -> int:
        return len(self._items)

    def item(self, index: int) -> U:
        """See :meth:`LazySequence.item`."""
        return self._make(self._items[index])


class Selected(LazySequence[T]):
    """Some of ``items``, by their numbers and in their order."""

    def __init__(self, items: Sequence[T], numbers: Iterable[int]) -> None:
        self._items = items
        self._numbers: NDArray[np.int64] = np.fromiter(numbers, np.int64)

    def __len__(self) -> int:
        return len(self._numbers)

    def item(self, index: int) -> T:
        """See :meth:`LazySequence.item`."""
        return self._items[int(self._numbers[index])]


class Joined(LazySequence[T]):
    """Sequences one after the other."""

    def __init__(self, *parts: Sequence[T]) -> None:
        self._parts = [part for part in parts if len(part)]
        self._starts = [0, *accumulate(len(part) for part in self._parts)]

    def __len__(self) -> int:
        return self._starts[-1]

    def item(self, index: int) -> T:
        """See :meth:`LazySequence.item`."""
        part = bisect_right(self._starts, index) - 1
        return self._parts[part][index - self._starts[part]]
