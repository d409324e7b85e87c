"""An output that appears whole or not at all, readable by its owner only."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from cxrguard.errors import CxrguardError
from cxrguard.tables.lines import STANDARD


class PrivateOutput:
    """A file that is written beside its place and renamed by :meth:`commit`; use it in a ``with`` block.

    Left without a commit, nothing remains and what lay there before is untouched. Standard output (``-``) is collected
    in an unnamed temporary file and copied by the commit, so that a failure leaves that empty too.

    Args:
        path: A file, compressed if it ends in ``.gz``; missing parent folders are made. Or ``-``.

    Attributes:
        file: Where to write bytes.

    """

    def __init__(self, path: str) -> None:
        self._path = None if path == STANDARD else Path(path)
        self._temporary: str | None = None
        if self._path is None:
            self._raw = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 (closed by __exit__)
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # mkstemp creates with 0600 whatever the umask; the same folder keeps os.replace on one file system.
            descriptor, self._temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.", suffix=".tmp")
            self._raw = os.fdopen(descriptor, "wb")
        # No name and no time inside: the same input gives the same bytes.
        packed = path.lower().endswith(".gz")
        self.file = cast(BinaryIO, gzip.GzipFile("", "wb", fileobj=self._raw, mtime=0)) if packed else self._raw

    def __enter__(self) -> PrivateOutput:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._raw.close()
        finally:
            if self._temporary is not None:
                Path(self._temporary).unlink(missing_ok=True)

    def finish(self) -> None:
        """Brings all that was written to the disk; after this only the renaming can fail."""
        if self.file is not self._raw:
            self.file.close()
        self._raw.flush()
        os.fsync(self._raw.fileno())

    def commit(self) -> None:
        """Puts the finished file in its place."""
        if self._path is None:
            self._raw.seek(0)
            try:
                shutil.copyfileobj(self._raw, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            except BrokenPipeError:
                # What is left in the buffer goes nowhere, or Python complains of it once more at its end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise
        elif self._temporary is not None:
            os.replace(self._temporary, self._path)
            self._temporary = None


def open_output(stack: ExitStack, path: str) -> PrivateOutput:
    """An output that is closed with ``stack``.

    Raises:
        CxrguardError: If it cannot be made; here the message can say which of several files it is.

    """
    try:
        return stack.enter_context(PrivateOutput(path))
    except OSError as error:
        raise CxrguardError(f"{path}: cannot be written ({error.strerror}).") from None


def commit_all(outputs: Sequence[PrivateOutput]) -> None:
    """Puts finished files in their places; all are on the disk before the first is renamed."""
    for step in (PrivateOutput.finish, PrivateOutput.commit):
        for output in outputs:
            step(output)


@contextmanager
def told_of(target: str) -> Iterator[None]:
    """Raises CxrguardError, which names ``target``, for an OSError within."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CxrguardError(f"{target}: cannot be written ({reason}).") from None
