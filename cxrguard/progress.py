"""How far a long piece of work is and how long it still takes; short work shows nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from multiprocessing import current_process
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

QUIET_SECONDS = 5.0
_TELL_SECONDS = 0.5  # drawing a bar takes longer than many an item
Item = TypeVar("Item")


def can_draw() -> bool:
    """Whether a live bar may be drawn: on a terminal, and in no process that others of its kind share it with (a sweep's jobs)."""
    return sys.stdout.isatty() and current_process().name == "MainProcess"


@contextmanager
def progress_of(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A live bar on a terminal, a line every tenth elsewhere; nothing for the first :data:`QUIET_SECONDS`.

    Args:
        what: e.g. "encoding images".
        total: pieces of work in all.

    Yields:
        A function to call with the number of pieces that are newly done.

    """
    shown = _Bar(what, total) if can_draw() else _Lines(what, total)
    try:
        yield shown.advance
    finally:
        shown.close()


def shown(what: str, items: Iterable[Item], total: int | None = None) -> Iterator[Item]:
    """The items one by one, with :func:`progress_of` them.

    Args:
        what: e.g. "reading reports".
        items: anything to go through.
        total: how many there are about; what has a length need not say.

    """
    total = len(items) if total is None and isinstance(items, Sized) else total or 0
    with progress_of(what, total) as advance:
        done, told, since = 0, 0, time.monotonic()
        for item in items:
            yield item
            done += 1
            if (now := time.monotonic()) - since >= _TELL_SECONDS:
                advance(done - told)
                told, since = done, now
        advance(done - told)


class _Lines:
    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done, self._start, self._tenth = what, total, 0, time.monotonic(), 0

    def advance(self, n: int) -> None:
        self._done += n
        passed, tenth = time.monotonic() - self._start, 10 * self._done // max(self._total, 1)
        if passed < QUIET_SECONDS or tenth == self._tenth:
            return
        self._tenth = tenth
        left = passed / self._done * (self._total - self._done)
        print(f"{self._what}: {self._done:,} of {self._total:,}, {_in_words(left)} left", flush=True)

    def close(self) -> None:
        """Nothing is open."""


class _Bar:
    def __init__(self, what: str, total: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=16), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar, self._start = Progress(*columns, transient=True), time.monotonic()
        self._task = self._bar.add_task(what, total=total)
        self._shown = False

    def advance(self, n: int) -> None:
        self._bar.advance(self._task, n)
        if not self._shown and time.monotonic() - self._start >= QUIET_SECONDS:
            self._shown = True
            self._bar.start()

    def close(self) -> None:
        if self._shown:
            self._bar.stop()


def _in_words(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
