"""The prompts of a table, each once. Only their hashes are held: the table is read again where their text is needed."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cxrguard.errors import BadInputError
from cxrguard.tables import Batch, open_reader
from cxrguard.tables.lines import STANDARD


def digest(prompt: str) -> bytes:
    """Tells prompts apart."""
    return hashlib.blake2b(prompt.encode(), digest_size=16).digest()


@dataclass
class UniquePrompts:
    """Numbers prompts in the order in which each is first met.

    Attributes:
        index: a prompt's number by its :func:`digest`.
        rows: rows of the table.
        empty: rows whose prompt is empty or blank; these have no number.

    """

    index: dict[bytes, int] = field(default_factory=dict)
    rows: int = 0
    empty: int = 0

    def __len__(self) -> int:
        return len(self.index)

    @property
    def repeated(self) -> int:
        """Rows that share their prompt with a row before them."""
        return self.rows - self.empty - len(self)

    def add(self, prompt: str) -> int | None:
        """The prompt's number if it is new, else None."""
        self.rows += 1
        if not prompt.strip():
            self.empty += 1
            return None
        number = len(self.index)
        return number if self.index.setdefault(digest(prompt), number) == number else None

    def number(self, prompt: str) -> int | None:
        """The prompt's number, None for an empty one.

        Raises:
            KeyError: If it was not added.

        """
        return self.index[digest(prompt)] if prompt.strip() else None


@dataclass(frozen=True)
class PromptTable:
    """A table that can be read several times.

    Args:
        path: the file.
        where: its name in messages.
        column: the prompts' column.
        added: columns that it may not have.

    """

    path: str
    where: str
    column: str
    added: tuple[str, ...] = ()

    def batches(self) -> Iterator[Batch]:
        """The rows.

        Raises:
            BadInputError: For what cannot be read, in the words of this command.

        """
        try:
            yield from open_reader(self.path, self.column, self.added)
        except BadInputError as error:
            message = str(error).replace("--text-column", "--prompt-column").replace(self.path, self.where)
            raise BadInputError(message) from None

    def unique(self, prompts: UniquePrompts | None = None) -> Iterator[tuple[int, str]]:
        """Each prompt with its number, once; ``prompts`` keeps the count."""
        prompts = UniquePrompts() if prompts is None else prompts
        for batch in self.batches():
            for text in batch.texts:
                number = prompts.add(text)
                if number is not None:
                    yield number, text

    def count(self) -> UniquePrompts:
        """The prompts of the whole table.

        Raises:
            BadInputError: If there is none.

        """
        prompts = UniquePrompts()
        for _ in self.unique(prompts):
            pass
        if not prompts.rows:
            raise BadInputError(f"{self.where}: holds no prompt; there is nothing to score.")
        if not prompts:
            raise BadInputError(f"{self.where}: all {prompts.rows:,} prompts in column {self.column!r} are empty.")
        return prompts

    def hash(self) -> str:
        """A hash of the file."""
        return hash_file(Path(self.path))


def hash_file(path: Path) -> str:
    """A hash of a file.

    Raises:
        BadInputError: If it cannot be read.

    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()  # type: ignore[arg-type]
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read ({error.strerror}).") from None


@contextmanager
def prompt_table(source: str, column: str, added: tuple[str, ...] = ()) -> Iterator[PromptTable]:
    """The table ``source``; standard input is copied to a private file, for it is read more than once."""
    if source != STANDARD:
        yield PromptTable(source, source, column, added)
        return
    descriptor, name = tempfile.mkstemp(suffix=".jsonl")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield PromptTable(name, "standard input", column, added)
    finally:
        with suppress(OSError):
            Path(name).unlink()
