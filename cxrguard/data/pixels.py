"""Reads the images of a data set once, into the cache; what is handed on are views of the file."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrguard.data.cache import Cache, StoredRows
from cxrguard.data.images import image_file
from cxrguard.data.lazy import LazySequence
from cxrguard.errors import ImageError

Pixels = NDArray[np.uint8]
_WORKERS = min(max(os.cpu_count() or 1, 4), 16)
_IN_FLIGHT = 4 * _WORKERS
_IMAGES_A_WRITE = 64
# A change of how images are decoded makes them anew.
_SOURCES = ("images.py", "dicom.py", "window.py")
_LIBRARIES = ("pillow", "pydicom")


class ReadImages(LazySequence[Pixels | ImageError]):
    """Each image as uint8 ``[H, W]``, a read-only view of the file, or why it cannot be used.

    Attributes:
        errors: why, by the image's number.

    """

    def __init__(self, rows: StoredRows, errors: Mapping[int, ImageError]) -> None:
        self._rows, self.errors = rows, errors

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, index: int) -> Pixels | ImageError:
        """See :meth:`~cxrguard.data.lazy.LazySequence.item`."""
        view = self._rows.view(index)
        return self.errors[index] if view is None else view


def read_pixels(cache: Cache, paths: Sequence[str], load: Callable[[str], Pixels], settings: Mapping[str, object]) -> ReadImages:
    """Every image as uint8 ``[H, W]``, read-only, or why it cannot be used; as many in memory as are being decoded.

    An image that is in the cache is not opened again as long as its path, size and time of change are the same.

    Args:
        cache: where they are kept.
        paths: of images, see :mod:`cxrguard.data.images`.
        load: reads one; raises :class:`~cxrguard.errors.ImageError`.
        settings: all that ``load`` does depends on, in plain types.

    Raises:
        CxrguardError: the cache cannot be used.

    """
    errors: dict[int, ImageError] = {}
    by_name: dict[bytes, ImageError] = {}

    def produce(items: list[int]) -> Iterator[tuple[list[int], Pixels]]:
        for some in _in_batches(_decode(items, lambda i: load(paths[i]))):
            bad = {i: found for i, found in some if isinstance(found, ImageError)}
            errors.update(bad)
            by_name.update({_name(paths[i]): error for i, error in bad.items()})
            good = [(i, found) for i, found in some if not isinstance(found, ImageError)]
            if good:
                yield [i for i, _ in good], np.stack([found for _, found in good])

    names = (_name(path) for path in paths)
    rows = cache.rows("pixels", _component(settings), names, produce, np.uint8, "reading images")
    for i in np.flatnonzero(rows.rows < 0).tolist():
        if i not in errors:  # the same file as an earlier one
            errors[i] = by_name[_name(paths[i])]
    return ReadImages(rows, errors)


def _name(path: str) -> bytes:
    """What tells a version of an image from another: its file, the place in an archive, size and time of change."""
    try:
        file = image_file(path)
        found, place = os.stat(file), "" if file == Path(path) else path.rpartition("::")[2]
        return json.dumps([os.path.realpath(file), place, found.st_size, found.st_mtime_ns]).encode()
    except (OSError, ValueError):  # reading it will say why; should it come back meanwhile, no later run takes it for known
        return secrets.token_bytes(16)


def _component(settings: Mapping[str, object]) -> str:
    found = hashlib.blake2b(json.dumps(dict(settings), sort_keys=True).encode())
    for source in _SOURCES:
        found.update((Path(__file__).parent / source).read_bytes())
    for library in _LIBRARIES:
        found.update(f"{library} {_version(library)}".encode())
    return found.hexdigest()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def _decode(items: Sequence[int], load: Callable[[int], Pixels]) -> Iterator[tuple[int, Pixels | ImageError]]:
    """(item, its pixels or why there are none), in order, so many at a time that reading never waits and memory stays small."""

    def attempt(item: int) -> Pixels | ImageError:
        try:
            return load(item)
        except ImageError as error:
            return error

    left = iter(items)
    with ThreadPoolExecutor(_WORKERS) as pool:
        waiting: deque[tuple[int, Future[Any]]] = deque((i, pool.submit(attempt, i)) for i in islice(left, _IN_FLIGHT))
        while waiting:
            item, future = waiting.popleft()
            found = future.result()
            waiting.extend((i, pool.submit(attempt, i)) for i in islice(left, 1))
            yield item, found


def _in_batches(found: Iterator[tuple[int, Pixels | ImageError]]) -> Iterator[list[tuple[int, Pixels | ImageError]]]:
    while some := list(islice(found, _IMAGES_A_WRITE)):
        yield some
