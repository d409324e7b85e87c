"""One table through the sanitizer, as ``cxrguard sanitize`` does it: all outputs appear together at the end, or none."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NoReturn

from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.bulk import STATUSES, Counts, SanitizedRow, sanitize_batches
from cxrguard.sanitizer.pipeline import TextSanitizer
from cxrguard.sanitizer.settings import SanitizerSettings
from cxrguard.tables import Batch, PrivateOutput, Writer, open_reader, open_writer
from cxrguard.tables.edits import EditsWriter, check_ending
from cxrguard.tables.formats import kind
from cxrguard.tables.lines import STANDARD
from cxrguard.tables.progress import progress_bar

ADDED = ("sanitized", "n_edits", "status")


@dataclass(frozen=True)
class SanitizeRequest:
    """What is to be sanitized and where the results go.

    Args:
        source: A table, or ``-``.
        target: Where the table goes with the columns :data:`ADDED`.
        settings: Of the sanitizer.
        text_column: The column of the prompts.
        edits: ``.jsonl`` or ``.csv``; "" writes none.
        summary: Counts and settings as JSON; "" writes none.
        overwrite: Replace columns of the names that are added.
        workers: Processes.
        progress: Show a bar, if standard error is a terminal.

    Raises:
        CxrguardError: For an unknown ending or name, a file that is missing, or two that are the same.

    """

    source: str
    target: str
    settings: SanitizerSettings
    text_column: str = "text"
    edits: str = ""
    summary: str = ""
    overwrite: bool = False
    workers: int = 1
    progress: bool = False

    def __post_init__(self) -> None:
        kind(self.source)
        kind(self.target)
        if self.edits:
            check_ending(self.edits)
        _check_names(self.settings)
        # Not left to typer, which takes "-" for a file that does not exist.
        if self.source != STANDARD and not os.path.exists(self.source):
            raise CxrguardError(f"{self.source}: does not exist.")
        for path in (self.source, self.target, self.edits, self.summary):
            if os.path.isdir(path):
                raise CxrguardError(f"{path}: is a directory.")
        _check_apart({"IN": self.source, "OUT": self.target, "--edits": self.edits, "--summary": self.summary})


def _check_names(settings: SanitizerSettings) -> None:
    """Raises CxrguardError for a name that stands for nothing; what is wrong inside a user's file is told when it is used."""
    try:
        TextSanitizer(settings)
    except CxrguardError:
        if not any(os.path.isfile(name) for name in (*settings.conventions, settings.cues)):
            raise


def _check_apart(paths: dict[str, str]) -> None:
    seen: dict[object, str] = {}
    for name, path in paths.items():
        if not path or (path == STANDARD and name in ("IN", "OUT")):
            continue
        # A hard link is the same file under another path; a file that is not there yet has its path only.
        for key in {os.path.realpath(path), _inode(path)} - {None}:
            if (other := seen.setdefault(key, name)) != name:
                raise CxrguardError(f"{other} and {name} are the same file ({path}). Choose another for {name}.")


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def sanitize_file(request: SanitizeRequest) -> Counts:
    """Sanitizes a table; see :class:`SanitizeRequest`.

    Returns:
        The counts over all rows.

    Raises:
        CxrguardError: For input that cannot be read, a marker that is left, or a refused prompt if the policy is
            ``raise``; then nothing is written and what was there before is untouched.

    """
    try:
        return _sanitize_file(request)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    raise CxrguardError(f"{request.target}: cannot be written ({reason}).")


def _sanitize_file(request: SanitizeRequest) -> Counts:
    with ExitStack() as stack:
        stack.enter_context(_ended_cleanly())
        edits = _open(stack, request.edits) if request.edits else None
        summary = _open(stack, request.summary) if request.summary else None
        table = _open(stack, request.target)
        counts = _stream(request, table, EditsWriter(request.edits, edits.file) if edits else None)
        if request.settings.on_refused == "raise":
            counts.check_refused()
        if summary:
            summary.file.write((json.dumps(summarize(counts, request.settings), indent=2) + "\n").encode())
        outputs = [output for output in (edits, summary, table) if output]
        # All are on the disk before the first is renamed.
        for step in (PrivateOutput.finish, PrivateOutput.commit):
            for output in outputs:
                step(output)
    return counts


def _open(stack: ExitStack, path: str) -> PrivateOutput:
    try:
        return stack.enter_context(PrivateOutput(path))
    except OSError as error:  # here the message can say which of the files it is
        raise CxrguardError(f"{path}: cannot be written ({error.strerror}).") from None


def _stream(request: SanitizeRequest, table: PrivateOutput, edits: EditsWriter | None) -> Counts:
    counts = Counts()
    reader = open_reader(request.source, request.text_column, () if request.overwrite else ADDED)
    writer = open_writer(request.target, table.file, request.text_column, ADDED)
    with progress_bar("Sanitizing", reader.progress, show=request.progress) as update:
        for batch, rows in sanitize_batches(reader, request.settings, request.workers):
            _write(writer, edits, batch, rows)
            counts.add(batch.first_row, rows)
            update(counts.prompts)
    writer.finish()
    return counts


def _write(writer: Writer, edits: EditsWriter | None, batch: Batch, rows: Sequence[SanitizedRow]) -> None:
    writer.write(batch, [(row.text, len(row.edits), row.status) for row in rows])
    if edits:
        for number, row in enumerate(rows, start=batch.first_row):
            edits.write(number, row.edits)


def summarize(counts: Counts, settings: SanitizerSettings) -> dict[str, object]:
    """The counts with the settings that they hold for, as ``--summary`` writes them."""
    told = {"conventions": list(settings.conventions), "action": settings.action, "cues": settings.cues, "priors": settings.priors}
    return {
        **counts.as_dict(),
        "settings": {**told, "on_refused": settings.on_refused, "complete": settings.complete, "seed": settings.seed},
    }


def summary_lines(counts: Counts) -> Iterator[str]:
    """The counts for people."""
    told = counts.as_dict()
    yield (
        f"{counts.prompts:,} prompts: " + ", ".join(f"{told[s]:,} {s}" for s in STATUSES) + f". Markers left: {counts.residual_markers:,}."
    )
    for title, counter in (("Markers found", counts.conventions), ("Edits by rule", counts.rules)):
        if counter:
            yield (
                f"{title}: " + ", ".join(f"{name} {n:,}" for name, n in sorted(counter.items(), key=lambda item: (-item[1], item[0]))) + "."
            )


@contextmanager
def _ended_cleanly() -> Iterator[None]:
    """Turns SIGTERM, by which batch systems end a job, into an exception, so that temporary files go."""

    def stop(*_: object) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set a handler
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
