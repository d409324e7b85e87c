"""The work directory of ``cxrguard score``: the scores so far."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from cxrguard.scoring.parts import PartsDirectory

_INDEX, _CUT = "prompt", "cut"


class WorkDirectory(PartsDirectory):
    """Parts of scores.

    Args:
        path: the directory.
        fingerprint: of everything that the scores depend on.
        columns: the scores.

    """

    def __init__(self, path: Path, fingerprint: str, columns: Sequence[str]) -> None:
        super().__init__(path, fingerprint, [_INDEX, _CUT, *columns])
        self.columns = tuple(columns)

    def add(self, rank: int, numbers: Sequence[int], scores: np.ndarray, cut: Sequence[bool]) -> None:
        """Writes the scores ``[N, columns]`` of some prompts; they are there whole or not at all."""
        arrays = [pa.array(numbers, pa.int64()), pa.array(cut, pa.bool_()), *(pa.array(column, pa.float32()) for column in scores.T)]
        self.write_part(rank, pa.Table.from_arrays(arrays, names=self._names))

    def load(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What there is for ``n`` prompts.

        Returns:
            Which are done ``[n]``, their scores ``[n, columns]``, and which of them were cut ``[n]``.

        """
        done, cut = np.zeros(n, bool), np.zeros(n, bool)
        scores = np.full((n, len(self.columns)), np.nan, np.float32)
        for _, part in self.parts():
            numbers = part.column(_INDEX).to_numpy()
            done[numbers] = True
            cut[numbers] = part.column(_CUT).to_numpy()
            scores[numbers] = np.stack([part.column(name).to_numpy() for name in self.columns], axis=1)
        return done, scores, cut
