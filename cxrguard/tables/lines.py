"""Bytes and lines of an input file or of standard input, with one clear message where they cannot be read."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from cxrguard.errors import BadInputError

STANDARD = "-"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
BOM = b"\xef\xbb\xbf"


class Source:
    """An input as lines of text, ended by nothing but a line feed, and how far it has been read.

    Args:
        path: A file, gzip-compressed if it ends in ``.gz``, or ``-`` for standard input.

    Attributes:
        where: Its name in messages.
        bom: Whether a byte order mark stood at its start; known once the first line is read.
        line: 1-based number of the line read last.

    """

    def __init__(self, path: str) -> None:
        self.where = "standard input" if path == STANDARD else path
        self.bom = False
        self.line = 0
        try:
            self._raw: BinaryIO = sys.stdin.buffer if path == STANDARD else Path(path).open("rb")  # noqa: SIM115 (open as long as it is read)
            self._size = os.fstat(self._raw.fileno()).st_size if path != STANDARD else 0
        except OSError as error:
            raise BadInputError(f"{self.where}: cannot be opened ({error.strerror}).") from None
        self._bytes = cast(BinaryIO, gzip.GzipFile(fileobj=self._raw)) if path.lower().endswith(".gz") else self._raw

    def progress(self) -> tuple[int, int]:
        """Bytes of the file read so far, and its size (0 if that is not known)."""
        return (self._raw.tell() if self._size else 0), self._size

    def __iter__(self) -> Iterator[str]:
        """Yields each line with its end.

        Raises:
            BadInputError: For what is not UTF-8, or a damaged file.

        """
        try:
            for line in self._bytes:
                self.line += 1
                yield self._decode(line)
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or "damaged or cut off"
            raise BadInputError(f"{self.where}: cannot be read after line {self.line} ({reason}).") from None

    def _decode(self, line: bytes) -> str:
        if self.line == 1 and line.startswith(BOM):
            self.bom = True
            line = line[len(BOM) :]
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            pass  # raised below: the error's own text and context hold the line
        if self.line == 1 and line.startswith(_UTF16):
            raise BadInputError(f"{self.where}: looks like UTF-16. Convert it first: iconv -f utf-16 -t utf-8.")
        raise BadInputError(f"{self.where}: line {self.line} is not UTF-8 text. Convert the file first, e.g. iconv -f latin1 -t utf-8.")
