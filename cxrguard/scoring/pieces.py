"""The work directory of ``cxrguard attribute``: what the pieces of each prompt have come to so far."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from cxrguard.scoring.attribution import LEVELS, SECTION, Attribution, Piece
from cxrguard.scoring.parts import PartsDirectory

Numbered = tuple[tuple[int, ...], list[Attribution]]
_SCHEMA = pa.schema(
    [
        ("prompt", pa.int64()),
        ("cut", pa.bool_()),
        ("level", pa.int8()),
        *((name, pa.int32()) for name in ("index", "start", "end")),
        *((name, pa.float64()) for name in ("gradient", "gradient_times_input", "ablation")),
    ]
)


class PieceDirectory(PartsDirectory):
    """Parts of attributions, a row a piece. No text is in them.

    Args:
        path: the directory.
        fingerprint: of everything that the attributions depend on.
        kept: parts in memory at once. Prompts come in the order in which a process did them, so one a process and one more will do.

    """

    def __init__(self, path: Path, fingerprint: str, kept: int = 2) -> None:
        super().__init__(path, fingerprint, _SCHEMA.names)
        self._kept = kept
        self._places: dict[int, Path] = {}
        self._read: OrderedDict[Path, dict[int, Attribution]] = OrderedDict()

    def add(self, rank: int, batches: Sequence[Numbered]) -> None:
        """Writes the attributions of some prompts; they are there whole or not at all."""
        rows = [
            (number, found.cut, LEVELS.index(p.level), p.index, p.start, p.end, p.gradient, p.gradient_times_input, p.ablation)
            for numbers, attributions in batches
            for number, found in zip(numbers, attributions, strict=True)
            for p in (*found.sections, *found.pieces)
        ]
        self.write_part(rank, pa.table(list(map(list, zip(*rows, strict=True))), schema=_SCHEMA))

    def done(self, n: int) -> np.ndarray:
        """Which of ``n`` prompts are done."""
        done = np.zeros(n, bool)
        self._places.clear()
        for path, part in self.parts():
            for number in np.unique(part.column("prompt").to_numpy()).tolist():
                done[number] = True
                self._places[number] = path
        return done

    def attribution(self, number: int) -> Attribution:
        """That of a prompt that is done, by the last call of :meth:`done`."""
        path = self._places[number]
        if path not in self._read:
            self._read[path] = _attributions(self.read_part(path))
            while len(self._read) > self._kept:
                self._read.popitem(last=False)
        self._read.move_to_end(path)
        return self._read[path][number]


def _attributions(part: pa.Table) -> dict[int, Attribution]:
    found: dict[int, tuple[bool, list[Piece]]] = {}
    for number, cut, level, *values in zip(*(column.to_pylist() for column in part.columns), strict=True):
        found.setdefault(number, (cut, []))[1].append(Piece(LEVELS[level], *values))
    return {
        number: Attribution(tuple(p for p in pieces if p.level != SECTION), cut, tuple(p for p in pieces if p.level == SECTION))
        for number, (cut, pieces) in found.items()
    }
