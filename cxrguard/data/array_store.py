"""One folder of the cache: rows of one shape in a file, and whose they are in another. Used under the folder's lock."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrguard.errors import CxrguardError
from cxrguard.files import PRIVATE_MODE, write_json_private

DATA, INDEX, META = "data.bin", "index.bin", "meta.json"
_FORMAT = 1
# Of fixed width: NumPy compares all 16 bytes, and only drops zeros at the end where a single key becomes Python's bytes.
KEY = np.dtype("S16")
_ENTRY = np.dtype([("key", KEY), ("digest", KEY)])
_COMMIT_SECONDS = 2.0


def _digests(rows: Iterable[Any]) -> NDArray[np.bytes_]:
    """16 bytes each that name a row's content."""
    return np.array([hashlib.blake2b(row, digest_size=16).digest() for row in rows], KEY)


class ArrayStore:
    """Rows by key: entry ``i`` of the index names row ``i`` of the data and holds the digest of its content.

    The index is written after the data that it names is on the disk, so a killed process leaves rows that nobody names, which
    the next one overwrites. A file that is not ours, or not whole, is begun anew with one warning; the old one is unlinked
    and not cut off, since another process may have it mapped.

    Args:
        folder: exists; its lock is held.
        component: what the rows were made with; another one under the same name is not ours.
        dtype: of the rows.

    Attributes:
        shape: of a row; None until the first is appended.

    """

    def __init__(self, folder: Path, component: str, dtype: Any) -> None:
        self._folder, self._dtype = folder, np.dtype(dtype)
        self._meta: dict[str, Any] = {"format": _FORMAT, "component": component, "dtype": self._dtype.str}
        self.shape = self._read_shape()
        if self.shape is None and any(_size(folder / name) for name in (DATA, INDEX, META)):
            self._warn("its files are damaged or not ours; they are made anew")
            for name in (DATA, INDEX, META):
                (folder / name).unlink(missing_ok=True)
        self._index = self._read_index()

    def __len__(self) -> int:
        return len(self._index)

    def find(self, keys: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """The row of each key, the last one of that key; −1 where there is none."""
        if not len(self._index):
            return np.full(len(keys), -1, np.int64)
        order = np.argsort(self._index["key"], kind="stable")
        known = self._index["key"][order]
        place = np.searchsorted(known, keys, side="right") - 1
        return np.where((place >= 0) & (known[place] == keys), order[place], -1)

    def damaged(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of ``rows`` whose content is not what was written."""
        if not len(rows):
            return rows
        data = self.map()

        with ThreadPoolExecutor() as pool:
            good = list(
                pool.map(
                    lambda some: _digests(data[row] for row in some) == self._index["digest"][some],
                    np.split(rows, range(1024, len(rows), 1024)),
                )
            )
        found: NDArray[np.int64] = rows[~np.concatenate(good)]
        if len(found):
            self._warn(f"{len(found)} of {len(rows)} entries are damaged and are made again")
        return found

    def map(self) -> NDArray[Any]:
        """All rows, read-only, on the disk."""
        if self.shape is None or not len(self):
            return np.zeros((0, *(self.shape or ())), self._dtype)
        # A plain view: every row of a np.memmap would drag a dictionary of its own along.
        return np.asarray(np.memmap(self._folder / DATA, self._dtype, mode="r", shape=(len(self), *self.shape)))

    @contextmanager
    def writing(self) -> Iterator[_Writer]:
        """Rows are appended within; what was appended is kept even if it ends with an error.

        Raises:
            CxrguardError: the disk is full.

        """
        writer = _Writer(self)
        try:
            yield writer
        finally:
            writer.close()
            self._index = self._read_index()

    def _read_shape(self) -> tuple[int, ...] | None:
        try:
            found = json.loads((self._folder / META).read_text(encoding="utf-8"))
            shape = tuple(int(n) for n in found.pop("shape"))
        except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
            return None
        return shape if found == self._meta and all(n > 0 for n in shape) else None

    def set_shape(self, shape: tuple[int, ...], more: int) -> None:
        """The shape of a row, once it is known; ``more`` rows are to come.

        Raises:
            CxrguardError: they would not fit on the disk.
            ValueError: it differs from that of the rows that are there.

        """
        if self.shape not in (None, shape):
            raise ValueError(f"rows of shape {shape} in a store of {self.shape}")
        need, free = more * self.row_bytes(shape), shutil.disk_usage(self._folder).free
        if need > free:
            raise self.full(f"{need / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free")
        if self.shape is None:
            write_json_private(self._folder / META, self._meta | {"shape": list(shape)})
            self.shape = shape

    def row_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a row."""
        return math.prod(shape) * int(self._dtype.itemsize)

    def full(self, detail: str) -> CxrguardError:
        """What to say when there is no room."""
        return CxrguardError(f"the disk of the cache {self._folder} is full: {detail}; set cache.dir to a folder with room")

    def open(self, name: str) -> int:
        """A descriptor to write file ``name`` by, private from the first byte on."""
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT, PRIVATE_MODE)
        os.fchmod(descriptor, PRIVATE_MODE)
        return descriptor

    def _read_index(self) -> NDArray[Any]:
        try:
            raw = (self._folder / INDEX).read_bytes()
        except FileNotFoundError:
            raw = b""
        named = len(raw) // _ENTRY.itemsize  # a torn last entry is none
        there = _size(self._folder / DATA) // self.row_bytes(self.shape) if self.shape else 0
        if there < named:
            self._warn(f"the rows of {named - there} of {named} entries are missing and are made again")
        return np.frombuffer(raw, _ENTRY, count=min(named, there))

    def _warn(self, what: str) -> None:
        warnings.warn(f"The cache {self._folder.name} in {self._folder.parent}: {what}.", stacklevel=6)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _Writer:
    """Appends to the two files in the right order."""

    def __init__(self, store: ArrayStore) -> None:
        self._store, self._n, self._named = store, len(store), len(store)
        self._data, self._index = store.open(DATA), store.open(INDEX)
        # Entries whose rows are missing must not come back to life when rows of others are written in their place.
        os.ftruncate(self._index, self._n * _ENTRY.itemsize)
        self._pending: list[bytes] = []
        self._last = time.monotonic()

    def append(self, keys: NDArray[np.bytes_], rows: NDArray[Any], more: int) -> None:
        """Add rows ``[N, ...]``; ``more`` are to come, these included. See :meth:`ArrayStore.writing`."""
        self._store.set_shape(rows.shape[1:], more)
        size = self._store.row_bytes(rows.shape[1:])
        self._write(self._data, rows.tobytes(), self._n * size)
        entries = np.empty(len(rows), _ENTRY)
        entries["key"], entries["digest"] = keys, _digests(np.ascontiguousarray(rows))
        self._pending.append(entries.tobytes())
        self._n += len(rows)
        if time.monotonic() - self._last >= _COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Name what was appended: from now on it outlives this process."""
        entries = b"".join(self._pending)
        os.fsync(self._data)  # before the index: after a power cut it must name nothing that is not there
        self._write(self._index, entries, self._named * _ENTRY.itemsize)
        os.fsync(self._index)
        self._pending, self._named, self._last = [], self._n, time.monotonic()

    def close(self) -> None:
        """Commit and let go of the files."""
        try:
            if self._pending:
                self.commit()
        finally:
            os.close(self._data)
            os.close(self._index)

    def _write(self, descriptor: int, content: bytes, offset: int) -> None:
        try:
            view = memoryview(content)
            while view:
                done = os.pwrite(descriptor, view, offset)
                view, offset = view[done:], offset + done
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._store.full("nothing more can be written") from None
            raise
