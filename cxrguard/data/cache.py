"""Pixels, latents and hidden states on the disk, by what they were made from; memory-mapped where they are used.

One folder a kind and component, ``<cache.dir>/<kind>-<16 digits>/``: another VAE, text encoder, tokenizer or way to decode images is
another folder. Whoever builds holds the folder's lock; another process waits for it, and then finds the rows. A key is a hash
with the site's key of the content (of a path, size and time for a file), so that neither text nor names are in a cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxrguard.data.array_store import KEY, ArrayStore
from cxrguard.errors import CxrguardError
from cxrguard.files import PRIVATE_MODE
from cxrguard.progress import progress_of
from cxrguard.pseudonym import load_key
from cxrguard.rows import LazyRows, batches

_NAMES_AT_ONCE = 16 * 1024

Produce = Callable[[list[int]], Iterable[tuple[list[int], NDArray[Any]]]]
"""Makes the rows of some items: (which of them, their rows ``[K, ...]``), a few at a time; an item may be left out."""


class StoredRows(LazyRows):
    """Rows of a mapped file, in an order of their own.

    Attributes:
        data: ``[M, ...]``, all that is in the file, read-only.
        rows: ``[N]``, which row each item has; −1 for one without.

    """

    def __init__(self, data: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self.data, self.rows, self.shape = data, rows, (len(rows), *data.shape[1:])

    def read(self, indices: Sequence[int]) -> Tensor:
        """Copies, so that nobody can write to the file through them."""
        return torch.from_numpy(self.data[self.rows[list(indices)]])

    def view(self, item: int) -> NDArray[Any] | None:
        """An item's row as it lies in the file, read-only; None for an item without."""
        row = int(self.rows[item])
        return None if row < 0 else self.data[row]


@dataclass(frozen=True)
class Cache:
    """A folder of arrays by key; see the module. Made by :func:`open_cache`.

    Attributes:
        directory: where its folders are made, mode 0700.
        secret: what keys are hashed with.

    """

    directory: Path
    secret: bytes

    def rows(
        self, kind: str, component: str, names: Iterable[Any], produce: Produce, dtype: Any = np.float32, what: str = "encoding"
    ) -> StoredRows:
        """The rows of ``names``, of which those that are not there are made.

        Args:
            kind: ``pixels``, ``latents`` or ``text``.
            component: names everything but the content that decides what a row holds.
            names: each item's content, as bytes; equal ones share a row.
            produce: makes the rows of items, given their numbers, the first of each content and in order.
            dtype: of the rows.
            what: for the progress display.

        Raises:
            CxrguardError: the folder cannot be used, or its disk is full.

        """
        keys = self._keys(names)
        folder = self.directory / f"{kind}-{component[:16]}"
        try:
            with _locked(folder):
                return self._fill(ArrayStore(folder, component, dtype), keys, produce, what)
        except OSError as error:
            raise CxrguardError(
                f"the cache {folder} cannot be used ({error.strerror or type(error).__name__}); "
                "set cache.dir to a folder that you may write to, or to null"
            ) from None

    def _fill(self, store: ArrayStore, keys: NDArray[np.bytes_], produce: Produce, what: str) -> StoredRows:
        rows = store.find(keys)
        rows[np.isin(rows, store.damaged(np.unique(rows[rows >= 0])))] = -1
        missing = np.flatnonzero(rows < 0)
        missing = np.sort(missing[np.unique(keys[missing], return_index=True)[1]])
        if len(missing):
            with store.writing() as writer, progress_of(what, len(missing)) as advance:
                left = len(missing)
                for some, made in produce(missing.tolist()):
                    writer.append(keys[some], made, left)
                    left -= len(some)
                    advance(len(some))
            rows = store.find(keys)
        return StoredRows(store.map(), rows)

    def _keys(self, names: Iterable[Any]) -> NDArray[np.bytes_]:
        secret = self.secret[: hashlib.blake2b.MAX_KEY_SIZE]

        def key(some: Sequence[Any]) -> NDArray[np.bytes_]:
            return np.array([hashlib.blake2b(name, key=secret, digest_size=16).digest() for name in some], KEY)

        found, left = [np.empty(0, KEY)], iter(names)
        with ThreadPoolExecutor() as pool:  # hashing lets go of Python's lock
            while some := list(islice(left, _NAMES_AT_ONCE)):
                found.extend(pool.map(key, batches(some, 1024)))
        return np.concatenate(found)


@contextmanager
def open_cache(directory: str | Path | None) -> Iterator[Cache]:
    """A cache in ``directory``, made if missing; None: one that nobody keeps.

    The rows of the latter stay usable: its files are unlinked at the end, and gone when nothing maps them.

    Raises:
        CxrguardError: the directory cannot be made.

    """
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="cxrguard-") as temporary:
            yield Cache(Path(temporary), secrets.token_bytes(32))
        return
    yield Cache(private_directory(directory), load_key())


def private_directory(directory: str | Path) -> Path:
    """``cache.dir``, made if missing.

    Raises:
        CxrguardError: it cannot be made.

    """
    path = Path(directory).expanduser()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CxrguardError(f"cache.dir={path}: cannot be made ({error.strerror}); set another one, or null") from None
    return path


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone in ``folder``, which is made; says so if that takes waiting."""
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, PRIVATE_MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another run that builds the cache {folder.name}", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
