"""Rows and numbers for the writers of :mod:`cxrguard.tables`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from cxrguard.tables import Batch


class MadeBatch(Batch):
    """Rows that were made here; ``native`` is a list of their first columns' values."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields the first columns of every row."""
        for values in self.native:
            yield dict(zip(self.columns, values, strict=True))


def finite(value: float) -> float | None:
    """The number, None where it is none."""
    number = float(value)
    return number if math.isfinite(number) else None
