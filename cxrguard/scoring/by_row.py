"""Each row of a table with what is found out about its prompt; a prompt that comes again is looked at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from cxrguard.errors import BadInputError
from cxrguard.scoring.prompts import PromptTable, digest

Found = TypeVar("Found")


def found_by_row(
    table: PromptTable, batch_size: int, find: Callable[[Sequence[str]], Sequence[Found]]
) -> Iterator[tuple[int, str, Found | None]]:
    """Yields each row's number, its prompt and what ``find`` gives for it, None for an empty one; it is kept until the prompt's last row.

    Args:
        table: the prompts; it is read once before, to learn which is the last row.
        batch_size: rows at once.
        find: is given prompts that it has not seen, at least one.

    Raises:
        BadInputError: If the table has changed meanwhile.

    """
    left = Counter(digest(text) for batch in table.batches() for text in batch.texts)
    kept: dict[bytes, Found] = {}
    row = 0
    for batch in table.batches():
        for start in range(0, len(batch.texts), batch_size):
            some = batch.texts[start : start + batch_size]
            new = [text for text in dict.fromkeys(some) if text.strip() and digest(text) not in kept]
            kept |= zip(map(digest, new), find(new) if new else (), strict=True)
            for text in some:
                row += 1
                key = digest(text)
                yield row, text, kept.get(key)
                left[key] -= 1
                if left[key] < 0:
                    raise BadInputError(f"{table.where}: changed while it was read. Run it again.")
                if not left[key]:
                    kept.pop(key, None)
