"""The work directory beside OUT: what is done so far, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import fcntl
import io
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from cxrguard.errors import CxrguardError
from cxrguard.files import read_json, write_json_private, write_private
from cxrguard.tables.lines import STANDARD

_JOB = "job.json"
_LOCK = "cxrguard.lock"
STARTS = {
    "resumed": "An interrupted run was there: going on after {:,} prompts.",
    "other": "An interrupted run with another model, other arguments or other prompts was there: starting afresh.",
    "unwanted": "An interrupted run was thrown away: starting afresh.",
}
"""What is said of what :meth:`PartsDirectory.open` yields."""


class PartsDirectory:
    """``OUT.partial``: Parquet files of results, each whole, named after the job that they belong to.

    Args:
        path: the directory.
        fingerprint: of everything that the results depend on.
        names: the columns of a part.

    """

    def __init__(self, path: Path, fingerprint: str, names: Sequence[str]) -> None:
        self.path, self.fingerprint, self._names = path, fingerprint, list(names)
        self._written = 0
        # Not the process id: in a container a run that goes on has that of the one that was killed, and would write over its parts.
        self._run = secrets.token_hex(6)

    @contextmanager
    def open(self, *, resume: bool) -> Iterator[str]:
        """Makes the directory, or takes up what is there; no other run can meanwhile.

        Yields:
            ``"new"``; ``"resumed"``; ``"other"`` where parts of another job, or ``"unwanted"`` where any were thrown away.

        Raises:
            CxrguardError: If it is in use, or holds something else.

        """
        self._make()
        descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CxrguardError(f"{self.path}: another run is writing there. Wait for it, or choose another OUT.") from None
            try:
                yield self._take_up(resume)
            finally:
                if not any(self.path.glob("*.parquet")):
                    self.remove()
        finally:
            os.close(descriptor)

    def _make(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CxrguardError(f"{self.path}: cannot be written ({error.strerror}).") from None
        if self.path.is_symlink() or (any(self.path.iterdir()) and not (self.path / _LOCK).is_file()):
            raise CxrguardError(f"{self.path}: is in the way and no work directory of this command. Move it, or choose another OUT.")

    def _take_up(self, resume: bool) -> str:
        job = self.path / _JOB
        try:
            before = read_json(job).get("fingerprint") if job.exists() else None
        except (CxrguardError, AttributeError):
            before = "unreadable"
        parts = list(self.path.glob("*.parquet"))
        if before == self.fingerprint and resume:
            return "resumed" if parts else "new"
        for part in parts:
            part.unlink()
        write_json_private(job, {"fingerprint": self.fingerprint})
        if not parts:
            return "new"
        return "other" if resume else "unwanted"

    def write_part(self, rank: int, table: pa.Table) -> None:
        """Writes a part; it is there whole or not at all."""
        stream = io.BytesIO()
        pq.write_table(table, stream)
        name = f"{self.fingerprint}-{rank}-{self._run}-{self._written:06}.parquet"
        self._written += 1
        write_private(self.path / name, stream.getvalue())

    def parts(self) -> Iterator[tuple[Path, pa.Table]]:
        """Yields the job's parts in order; one that is damaged is removed, and what it held is done again."""
        for path in sorted(self.path.glob(f"{self.fingerprint}-*.parquet")):
            table = self.read_part(path)
            if table is None:
                path.unlink()
            else:
                yield path, table

    def read_part(self, path: Path) -> pa.Table | None:
        """A part, None if it is none."""
        try:
            table = pq.read_table(path, memory_map=False)
        except (pa.ArrowException, OSError):
            return None
        return table if table.schema.names == self._names else None

    def remove(self) -> None:
        """Removes all of it."""
        shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def work_path(target: str) -> Iterator[Path]:
    """``OUT.partial``; for standard output a directory that is not kept."""
    if target != STANDARD:
        yield Path(f"{target}.partial")
        return
    path = Path(tempfile.mkdtemp(prefix="cxrguard-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
