"""Looks for protected text in what a run left and printed, unpacked where it is packed."""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from wandb_records import records

from cxrguard.data.prepare import CanarySettings, plan
from cxrguard.data.records import ReportRecord


def sentences(prompt: str) -> set[str]:
    """The prompt's sentences and leads that are long enough to be told from chance."""
    parts = {part.strip() for mark in ("FINDINGS:", "IMPRESSION:", ", ") for part in prompt.replace(mark, ". ").split(". ")}
    return {prompt} | {part for part in parts if len(part.split()) >= 4}


def protected(records: Iterable[ReportRecord], canaries: CanarySettings, heldout_fraction: float, seed: int = 0) -> set[bytes]:
    """Every prompt's sentences (the planted decoration too) and every id of a data set; none holds another."""
    records = list(records)
    planned = plan(records, heldout_fraction, canaries, seed)
    prompts = [r.prompt for group in (records, planned.members, planned.canaries, planned.controls) for r in group]
    ids = {i for r in records for i in (r.subject_id, r.study_id, r.dicom_id)}
    shortest: list[str] = []
    for text in sorted(ids.union(*map(sentences, prompts)), key=len):
        if not any(part in text for part in shortest):
            shortest.append(text)
    return {text.encode() for text in shortest}


def unpacked(content: bytes) -> Iterator[bytes]:
    """The bytes themselves, and what they hold as gzip, zip (checkpoints are one) or base64 data of a page, to any depth."""
    yield content
    inside: list[bytes] = []
    if content.startswith(b"\x1f\x8b"):
        with contextlib.suppress(OSError, EOFError, zlib.error):  # numbers that begin like an archive, one in 65,536
            inside.append(gzip.decompress(content))
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            inside += [archive.read(name) for name in archive.namelist()]
    for data in re.findall(rb"data:[a-z/+;-]*base64,([A-Za-z0-9+/=]+)", content) if content.lstrip()[:1] == b"<" else []:
        try:
            inside.append(base64.b64decode(data))
        except binascii.Error:
            continue
    for part in inside:
        yield from unpacked(part)


def content_of(path: Path) -> bytes:
    """All that a file holds; an offline W&B run's records are put together again, since its framing may cut a text in two."""
    if path.suffix == ".wandb":
        return b"\n".join(record.SerializeToString() for record in records(path.parent))
    return b"\n".join(unpacked(path.read_bytes()))


def leaks(directory: Path, secrets: Iterable[bytes], *printed: str) -> list[str]:
    """Where a secret occurs (never which): file names, bytes of files of any kind, and ``printed`` text."""
    secrets = list(secrets)
    places = {path.relative_to(directory).as_posix(): content_of(path) for path in sorted(directory.rglob("*")) if path.is_file()}
    places |= {f"output {i}": text.encode() for i, text in enumerate(printed)}
    names = "\n".join(places).encode()
    return [place for place, content in places.items() if any(s in content for s in secrets)] + [
        "a file name" for s in secrets if s in names
    ]
