"""Items in a file of no name: report text of a large data set is not kept in memory, and is gone from the disk with the process."""

from __future__ import annotations

import errno
import os
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from cxrguard.data.cache import private_directory
from cxrguard.data.lazy import LazySequence
from cxrguard.errors import CxrguardError

T = TypeVar("T")
_BUFFER = 1 << 20


class Spool(LazySequence[T]):
    """Items that are read from a file each time, equal to what was put in but not the same objects.

    The file has no name in the file system (mode 0600, unlinked at once): nobody else can put anything into it, so it is safe to unpickle.

    Args:
        items: all of them; taken one after the other.
        directory: where the file lies; None: where temporary files do.

    Raises:
        CxrguardError: the disk is full.

    """

    def __init__(self, items: Iterable[T], directory: Path | None = None) -> None:
        ends = array("q", [0])  # 8 bytes an item
        self._file = tempfile.TemporaryFile(dir=directory, buffering=_BUFFER)  # noqa: SIM115  it lives as long as the items
        weakref.finalize(self, self._file.close)
        try:
            for item in items:
                ends.append(ends[-1] + self._file.write(pickle.dumps(item, pickle.HIGHEST_PROTOCOL)))
            self._file.flush()
        except OSError as error:
            self._file.close()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                place = directory or tempfile.gettempdir()
                raise CxrguardError(f"the disk of {place} is full: it has no room for the reports; make some, or set cache.dir") from None
            raise
        self._ends = np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def item(self, index: int) -> T:
        """See :meth:`~cxrguard.data.lazy.LazySequence.item`."""
        start, end = self._ends[index : index + 2].tolist()
        found: T = pickle.loads(os.pread(self._file.fileno(), end - start, start))
        return found


@dataclass(frozen=True)
class Spools:
    """Keeps items in files in ``directory``, which is made; see :class:`~cxrguard.data.lazy.Keep`."""

    directory: Path | None = None

    def __call__(self, items: Iterable[T], /) -> Sequence[T]:
        """All ``items``, in order."""
        return Spool(items, private_directory(self.directory) if self.directory else None)
