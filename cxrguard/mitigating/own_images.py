"""The training images of the prompts of a table, by the paths in one of its columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cxrguard.data.encoded import to_pixel_values
from cxrguard.data.images import load_pixels
from cxrguard.errors import BadInputError, ImageError
from cxrguard.scoring.prompts import PromptTable, digest
from cxrguard.tables.batch import as_text, check_column


class OwnImages:
    """Knows which images go with a prompt, and reads them when they are asked for.

    Args:
        table: the prompts.
        column: of the paths: absolute, or relative to ``root``; an empty cell is no image.
        root: a folder.
        size: pixels a side.

    Raises:
        BadInputError: If the table has no such column.

    """

    def __init__(self, table: PromptTable, column: str, root: Path, size: int) -> None:
        self._table, self._column, self._root, self._size = table, column, root, size
        self._rows: dict[bytes, dict[str, int]] = {}
        for batch in table.batches():
            self._check(batch.columns)
            for row, (text, values) in enumerate(zip(batch.texts, batch.rows(), strict=True), start=batch.first_row):
                if name := self.name(row, values):
                    self._rows.setdefault(digest(text), {}).setdefault(name, row)

    def _check(self, columns: list[str]) -> None:
        try:
            check_column(self._table.where, columns, self._column)
        except BadInputError as error:
            raise BadInputError(str(error).replace("--text-column", "--image-column")) from None

    def name(self, row: int, values: dict[str, Any]) -> str:
        """What the table calls the image of a row, "" for none.

        Raises:
            BadInputError: If it is no text.

        """
        return as_text(self._table.where, row, self._column, values.get(self._column)).strip()

    def of(self, prompt: str) -> dict[str, Tensor]:
        """The images ``[1, H, W]`` in [-1, 1] of a prompt.

        Raises:
            BadInputError: If one cannot be read; says in which row, not which file.

        """
        return {name: self._load(name, row) for name, row in self._rows.get(digest(prompt), {}).items()}

    def _load(self, name: str, row: int) -> Tensor:
        try:
            # A copy: torch warns of memory that it may not write to.
            image: Tensor = to_pixel_values([load_pixels(self._root / name, self._size).copy()])[0]
        except ImageError as error:
            raise BadInputError(f"{self._table.where}: row {row}: the image in column {self._column!r} {error.reason}.") from None
        return image.to(torch.float32)
