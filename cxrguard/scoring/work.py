"""The work directory beside OUT: what is scored so far, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from cxrguard.errors import CxrguardError
from cxrguard.files import read_json, write_json_private, write_private

_JOB = "job.json"
_LOCK = "cxrguard.lock"
_INDEX, _CUT = "prompt", "cut"


class WorkDirectory:
    """``OUT.partial``: Parquet files of scores, each whole, named after the job that they belong to.

    Args:
        path: the directory.
        fingerprint: of everything that the scores depend on.
        columns: the scores.

    """

    def __init__(self, path: Path, fingerprint: str, columns: Sequence[str]) -> None:
        self.path, self.fingerprint, self.columns = path, fingerprint, tuple(columns)
        self._written = 0

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

    def add(self, rank: int, numbers: Sequence[int], scores: np.ndarray, cut: Sequence[bool]) -> None:
        """Writes the scores ``[N, columns]`` of some prompts; they are there whole or not at all."""
        arrays = [pa.array(numbers, pa.int64()), pa.array(cut, pa.bool_()), *(pa.array(column, pa.float32()) for column in scores.T)]
        stream = io.BytesIO()
        pq.write_table(pa.Table.from_arrays(arrays, names=[_INDEX, _CUT, *self.columns]), stream)
        name = f"{self.fingerprint}-{rank}-{os.getpid()}-{self._written:06}.parquet"
        self._written += 1
        write_private(self.path / name, stream.getvalue())

    def load(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What there is for ``n`` prompts.

        Returns:
            Which are done ``[n]``, their scores ``[n, columns]``, and which of them were cut ``[n]``.

        """
        done, cut = np.zeros(n, bool), np.zeros(n, bool)
        scores = np.full((n, len(self.columns)), np.nan, np.float32)
        for path in sorted(self.path.glob(f"{self.fingerprint}-*.parquet")):
            part = self._read(path)
            if part is None:
                path.unlink()  # damaged: its prompts are scored again
                continue
            numbers = part.column(_INDEX).to_numpy()
            done[numbers] = True
            cut[numbers] = part.column(_CUT).to_numpy()
            scores[numbers] = np.stack([part.column(name).to_numpy() for name in self.columns], axis=1)
        return done, scores, cut

    def _read(self, path: Path) -> pa.Table | None:
        try:
            table = pq.read_table(path, memory_map=False)
        except (pa.ArrowException, OSError):
            return None
        return table if table.schema.names == [_INDEX, _CUT, *self.columns] else None

    def remove(self) -> None:
        """Removes all of it."""
        shutil.rmtree(self.path, ignore_errors=True)
