"""One table through the sanitizer, as ``cxrguard sanitize`` does it: all outputs appear together at the end, or none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.bulk import STATUSES, Counts, SanitizedRow, ordered, sanitize_batches
from cxrguard.sanitizer.pipeline import TextSanitizer
from cxrguard.sanitizer.settings import SanitizerSettings
from cxrguard.tables import Batch, PrivateOutput, Writer, commit_all, open_output, open_reader, open_writer, told_of
from cxrguard.tables.edits import EditsWriter, check_ending
from cxrguard.tables.formats import kind
from cxrguard.tables.paths import check_files
from cxrguard.tables.progress import progress_bar
from cxrguard.termination import ended_cleanly

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
        check_files({"IN": self.source, "OUT": self.target, "--edits": self.edits, "--summary": self.summary})


def _check_names(settings: SanitizerSettings) -> None:
    """Raises CxrguardError for a name that stands for nothing; what is wrong inside a user's file is told when it is used."""
    try:
        TextSanitizer(settings)
    except CxrguardError:
        if not any(os.path.isfile(name) for name in (*settings.conventions, settings.cues)):
            raise


def sanitize_file(request: SanitizeRequest) -> Counts:
    """Sanitizes a table; see :class:`SanitizeRequest`.

    Returns:
        The counts over all rows.

    Raises:
        CxrguardError: For input that cannot be read, a marker that is left, or a refused prompt if the policy is
            ``raise``; then nothing is written and what was there before is untouched.

    """
    with told_of(request.target), ended_cleanly(), ExitStack() as stack:
        edits = open_output(stack, request.edits) if request.edits else None
        summary = open_output(stack, request.summary) if request.summary else None
        table = open_output(stack, request.target)
        counts = _stream(request, table, EditsWriter(request.edits, edits.file) if edits else None)
        if request.settings.on_refused == "raise":
            counts.check_refused()
        if summary:
            summary.file.write((json.dumps(summarize(counts, request.settings), indent=2) + "\n").encode())
        commit_all([output for output in (edits, summary, table) if output])
    return counts


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
    return {**counts.as_dict(), "settings": asdict(settings) | {"conventions": list(settings.conventions)}}


def summary_lines(counts: Counts) -> Iterator[str]:
    """The counts for people."""
    told = counts.as_dict()
    yield (
        f"{counts.prompts:,} prompts: " + ", ".join(f"{told[s]:,} {s}" for s in STATUSES) + f". Markers left: {counts.residual_markers:,}."
    )
    for title, counter in (("Markers found", counts.conventions), ("Edits by rule", counts.rules)):
        if counter:
            yield f"{title}: " + ", ".join(f"{name} {n:,}" for name, n in ordered(counter).items()) + "."
