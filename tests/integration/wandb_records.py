"""Reads the records of an offline W&B run: LevelDB's log framing around protocol buffers (wandb has no reader of its own)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEADER, _IDENT = 32768, 7, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def _chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = _IDENT  # ":W&B", a magic number and a version come first
    while place + _HEADER <= len(data):
        if _BLOCK - place % _BLOCK < _HEADER:  # no chunk begins in a block's last bytes
            place += _BLOCK - place % _BLOCK
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            return
        yield kind, data[place + _HEADER : place + _HEADER + length]
        place += _HEADER + length


def records(run: Path) -> list[Any]:
    """All records of the run in this directory, as ``wandb_internal_pb2.Record``."""
    from wandb.proto import wandb_internal_pb2

    (file,) = run.glob("*.wandb")
    found, part = [], b""
    for kind, data in _chunks(file.read_bytes()):
        part = data if kind in (_FULL, _FIRST) else part + data
        if kind in (_FULL, _LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            found.append(record)
    return found
