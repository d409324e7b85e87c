"""Plain text, a prompt a line. Only a line feed ends one: prompts may hold other characters that Python takes for line ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from cxrguard.errors import BadInputError
from cxrguard.tables.batch import MAX_CHARS, MAX_ROWS, Batch
from cxrguard.tables.lines import BOM, Source


class TextBatch(Batch):
    """Lines of a text; ``native`` is (line end, whether the file has a byte order mark)."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields every row's values by column, of which there is one."""
        for text in self.texts:
            yield {self.columns[0]: text}


class TextReader:
    """Reads a prompt a line; a blank line is an empty prompt.

    Args:
        source: The file.
        column: What the lines are called where another format is written.
        added: Ignored: a text has no columns.

    """

    def __init__(self, source: Source, column: str, added: Sequence[str]) -> None:
        self.progress = source.progress
        self._source, self._column = source, column

    def __iter__(self) -> Iterator[Batch]:
        texts: list[str] = []
        chars, row, style = 0, 1, ("\n", False)
        for line in self._source:
            if row == 1 and not texts:
                style = ("\r\n" if line.endswith("\r\n") else "\n", self._source.bom)
            texts.append(line.removesuffix("\n").removesuffix("\r"))
            chars += len(line)
            if len(texts) >= MAX_ROWS or chars >= MAX_CHARS:
                yield TextBatch(self._source.where, row, texts, style, [self._column])
                row, texts, chars = row + len(texts), [], 0
        if texts:
            yield TextBatch(self._source.where, row, texts, style, [self._column])


class TextWriter:
    """Writes the sanitized prompts alone, a line each; a prompt that is not to be used is an empty line.

    Args:
        file: Where to.
        column: Ignored.
        added: Ignored but for the order: the first cell that is added is the prompt.

    """

    def __init__(self, file: BinaryIO, column: str, added: Sequence[str]) -> None:
        self._file = file
        self._end: str | None = None

    def write(self, batch: Batch, cells: Sequence[tuple[Any, ...]]) -> None:
        """Writes the first added cell of every row.

        Raises:
            BadInputError: For a prompt of several lines.

        """
        if self._end is None:
            self._end, bom = batch.native if isinstance(batch, TextBatch) else ("\n", False)
            self._file.write(BOM if bom else b"")
        for row, (text, *_) in enumerate(cells, start=batch.first_row):
            if "\n" in text:
                raise BadInputError(
                    f"{batch.where}: row {row}: the prompt has a line break, and .txt is a prompt a line. Write .jsonl or .csv."
                )
            self._file.write(f"{text}{self._end}".encode())

    def finish(self) -> None:
        """Does nothing: all is written."""
