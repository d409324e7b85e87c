"""Many prompts through the sanitizer: batches in, sanitized rows out, in order, on one process or several."""

from __future__ import annotations

import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from cxrguard.errors import CxrguardError, ResidualMarkerError
from cxrguard.sanitizer.pipeline import TextSanitizer
from cxrguard.sanitizer.settings import SanitizerSettings

STATUSES = ("unchanged", "edited", "emptied", "refused")
_ROWS_SHOWN = 10


class Texts(Protocol):
    """What can be sanitized: some consecutive rows."""

    first_row: int
    texts: list[str]


B = TypeVar("B", bound=Texts)


@dataclass(frozen=True)
class SanitizedRow:
    """What became of one prompt.

    Attributes:
        text: The sanitized prompt; ``""`` if emptied or refused.
        status: One of :data:`STATUSES`.
        edits: (rule, action, start, end) each, offsets into the original.
        markers: Markers found, by convention.
        residual: Markers left, 0 unless the action is ``off``.

    """

    text: str = field(repr=False)
    status: str
    edits: tuple[tuple[str, str, int, int], ...] = ()
    markers: tuple[tuple[str, int], ...] = ()
    residual: int = 0


@dataclass
class Counts:
    """Sums over the rows that were :meth:`added <add>`."""

    prompts: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    conventions: Counter[str] = field(default_factory=Counter)
    residual_markers: int = 0
    refused_rows: list[int] = field(default_factory=list)

    def add(self, first_row: int, rows: Sequence[SanitizedRow]) -> None:
        """Counts consecutive rows, the first of which is data row ``first_row``."""
        self.prompts += len(rows)
        for number, row in enumerate(rows, start=first_row):
            self.statuses[row.status] += 1
            self.rules.update(edit[0] for edit in row.edits)
            for name, n in row.markers:
                self.conventions[name] += n
            self.residual_markers += row.residual
            if row.status == "refused" and len(self.refused_rows) < _ROWS_SHOWN:
                self.refused_rows.append(number)

    def check_refused(self) -> None:
        """Raises CxrguardError that names the first rows that were refused, if any was."""
        if n := self.statuses["refused"]:
            shown = ", ".join(map(str, self.refused_rows)) + (", ..." if n > len(self.refused_rows) else "")
            raise CxrguardError(
                f"{n} of {self.prompts} prompts cannot be repaired without risk to a clinical fact (row {shown}), and --on-refused is "
                "raise: nothing is written. Look at those rows, or choose --on-refused drop, which leaves their prompts empty."
            )

    def as_dict(self) -> dict[str, object]:
        """The counts as JSON has them."""
        return {
            "prompts": self.prompts,
            **{status: self.statuses[status] for status in STATUSES},
            "residual_markers": self.residual_markers,
            "edits": self.rules.total(),
            "by_rule": ordered(self.rules),
            "by_convention": ordered(self.conventions),
        }


def ordered(counter: Counter[str]) -> dict[str, int]:
    """The most frequent first."""
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def sanitize_row(sanitizer: TextSanitizer, number: int, text: str) -> SanitizedRow:
    """Sanitizes data row ``number``.

    Raises:
        ResidualMarkerError: If a marker is left although the action is not ``off``.
        CxrguardError: If the sanitizer fails; names the row and the kind of error, never the text.

    """
    if not text:
        return SanitizedRow("", "unchanged")
    failure = ""
    try:
        return _sanitize(sanitizer, number, text)
    except ResidualMarkerError:
        raise
    except CxrguardError as error:
        failure = str(error)
    except Exception as error:  # its text and its traceback's context may hold the prompt
        failure = f"the sanitizer failed ({type(error).__name__}); please report this, without the text"
    raise CxrguardError(f"Row {number}: {failure}")


def _sanitize(sanitizer: TextSanitizer, number: int, text: str) -> SanitizedRow:
    result = sanitizer.sanitize(text)
    new = "" if result.status in ("emptied", "refused") else result.text
    residual = sanitizer.residual(new)
    if residual and sanitizer.settings.action != "off":
        raise ResidualMarkerError(
            f"Row {number}: {residual} marker(s) left after sanitizing: nothing is written. Please report this, without the text."
        )
    # A text that is unchanged and has no marker now had none: most need no second look.
    markers = () if new == text and not residual else sanitizer.markers_of(text, result).by_convention
    edits = tuple((edit.rule, edit.action, edit.start, edit.end) for edit in result.edits)
    return SanitizedRow(new, result.status, edits, markers, residual)


def sanitize_batches(batches: Iterable[B], settings: SanitizerSettings, workers: int = 1) -> Iterator[tuple[B, list[SanitizedRow]]]:
    """Sanitizes batch by batch; the result does not depend on ``workers``.

    Args:
        batches: Rows; not more than a few a worker are taken ahead.
        settings: Of the sanitizer. ``on_refused`` is the caller's to act on: here a refused row is a row like others.
        workers: Processes; 1 works in this one.

    Yields:
        Each batch with what became of its rows.

    Raises:
        CxrguardError: See :func:`sanitize_row`.

    """
    settings = replace(settings, on_refused="drop")
    if workers > 1:
        yield from _in_pool(batches, settings, workers)
        return
    sanitizer = TextSanitizer(settings)
    for batch in batches:
        yield batch, _sanitize_texts(sanitizer, batch.first_row, batch.texts)


def _sanitize_texts(sanitizer: TextSanitizer, first_row: int, texts: Sequence[str]) -> list[SanitizedRow]:
    return [sanitize_row(sanitizer, number, text) for number, text in enumerate(texts, start=first_row)]


# What a worker keeps between its batches; loading the conventions once is enough.
_worker: list[TextSanitizer] = []


def _start_worker(settings: SanitizerSettings) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers; they need not each print a traceback
    _worker[:] = [TextSanitizer(settings)]


def _work(first_row: int, texts: list[str]) -> list[SanitizedRow]:
    return _sanitize_texts(_worker[0], first_row, texts)


def _in_pool(batches: Iterable[B], settings: SanitizerSettings, workers: int) -> Iterator[tuple[B, list[SanitizedRow]]]:
    import multiprocessing

    # An executor, not a Pool: a Pool waits for ever for a worker that was killed. Spawned: no thread or lock is inherited.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(settings,))
    waiting: deque[tuple[B, Future[list[SanitizedRow]]]] = deque()
    try:
        for batch in batches:
            waiting.append((batch, pool.submit(_work, batch.first_row, batch.texts)))
            if len(waiting) > 2 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    except BrokenProcessPool:
        raise CxrguardError("A worker process ended unexpectedly (out of memory?): nothing is written. Try fewer --workers.") from None
    finally:
        pool.shutdown(cancel_futures=True)
