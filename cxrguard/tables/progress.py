"""A progress bar on standard error, where somebody can see it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(what: str, progress: Callable[[], tuple[int, int]], *, show: bool) -> Iterator[Callable[[int], None]]:
    """Shows how far a reader is.

    Args:
        what: Stands before the bar.
        progress: (done, of how many, 0 if unknown), see the readers.
        show: Without it, or if standard error is no terminal, nothing is shown.

    Yields:
        A function to call with the number of rows done so far.

    """
    if not (show and sys.stderr.isatty()):
        yield lambda rows: None
        return
    # Here: a run that shows nothing need not pay for it.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, rows=0)

        def update(rows: int) -> None:
            done, total = progress()
            bar.update(task, completed=done, total=total or None, rows=rows)

        yield update
