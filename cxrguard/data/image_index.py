"""A run's decoded images by their ``dicom_id``, in 24 bytes each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrguard.data.array_store import KEY


class ImageIndex(Mapping[str, NDArray[Any]]):
    """Like a dictionary from ids to images; of the ids it keeps digests only.

    Args:
        ids: different from each other.
        images: one each.

    """

    def __init__(self, ids: Sequence[str], images: Sequence[NDArray[Any]]) -> None:
        self._ids, self._images = ids, images
        keys = np.fromiter(map(_digest, ids), KEY, len(ids))
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __getitem__(self, dicom_id: str) -> NDArray[Any]:
        key = np.array(_digest(dicom_id), KEY)
        place = int(np.searchsorted(self._keys, key))
        if place == len(self._keys) or self._keys[place] != key:
            raise KeyError  # without the id
        return self._images[int(self._order[place])]


def _digest(dicom_id: str) -> bytes:
    return hashlib.blake2b(dicom_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
