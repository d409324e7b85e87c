"""Reads WebDataset shards: uncompressed tar archives whose samples are ``key.png`` (or ``.jpg``), ``key.txt`` and ``key.json``.

The text is the prompt; the JSON object has ``subject_id``, and may have ``study_id``, ``labels`` (a list) and ``view``. Files of a
sample lie one after the other, as the format asks. Nothing is unpacked: a record points to its image's bytes inside the shard,
so that loading one is a seek, whatever the shard's size.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from cxrguard.data.archives import tar_fault
from cxrguard.data.images import in_archive
from cxrguard.data.lazy import Keep
from cxrguard.data.records import Quarantined, ReportRecord
from cxrguard.data.settings import data_root
from cxrguard.data.table import as_text, cell
from cxrguard.errors import BadInputError
from cxrguard.progress import shown

_IMAGES = ("png", "jpg", "jpeg")
_MAX_TEXT, _MAX_MEMBER = 1 << 20, 1 << 30
_EMPTY_BLOCK = bytes(tarfile.BLOCKSIZE)


@dataclass
class _Sample:
    """What a shard holds of one key."""

    key: str
    image: str = ""
    texts: dict[str, bytes | None] = field(default_factory=dict)  # by ending; None where too long
    twice: bool = False


@dataclass(frozen=True)
class WebDatasetReader:
    """Reads samples from the shards of a directory. Images are not decoded.

    A quarantined row is the n-th sample, in the order of the shards' names.

    Args:
        root: the directory of the shards.
        shards: which of its files are shards, as a pattern, e.g. ``train-*.tar``.

    """

    root: str
    shards: str = "*.tar"

    def read(self, keep: Keep = list) -> tuple[Sequence[ReportRecord], list[Quarantined]]:
        """Return (records in the shards' order, quarantined rows).

        Raises:
            BadInputError: there is no shard, or one is damaged, compressed, or holds links or members that climb out.

        """
        quarantined: list[Quarantined] = []
        records = keep(self._records(quarantined))
        if not records and not quarantined:
            raise BadInputError(f"{self.root}: the shards hold no sample. Check data.root and data.shards.")
        return records, quarantined

    def _records(self, quarantined: list[Quarantined]) -> Iterator[ReportRecord]:
        """The usable samples' records; the others are added to ``quarantined``."""
        row = 0
        for shard in shown("reading shards", self._find()):
            seen: set[str] = set()
            for sample in _samples(shard):
                row += 1
                result = "the key is that of an earlier sample" if sample.key in seen else _record(shard, sample, row)
                seen.add(sample.key)
                if isinstance(result, ReportRecord):
                    yield result
                else:
                    quarantined.append(Quarantined(row, result))

    def _find(self) -> list[Path]:
        root = data_root(self.root, "shards", "the shards, *.tar")
        if "/" in self.shards or "\\" in self.shards or not self.shards.endswith(".tar"):
            raise BadInputError("data.shards must be a pattern of file names in data.root that ends in .tar, e.g. train-*.tar.")
        found = sorted(path for path in root.glob(self.shards) if path.is_file())
        if not found:
            raise BadInputError(f"{root}: there is no shard {self.shards}. Set data.root to their directory (.tar.gz: gunzip them first).")
        return found


def _samples(shard: Path) -> Iterator[_Sample]:
    """The shard's samples: neighbouring files with one key.

    Raises:
        BadInputError: the archive is damaged or one that is refused.

    """
    number, sample = 0, None
    try:
        with tarfile.open(shard, "r:") as archive:
            for number, member in enumerate(archive, start=1):
                _check_member(shard, number, member)
                path = PurePosixPath(member.name)
                name, _, ending = path.name.partition(".")
                if member.isdir() or not name:
                    continue
                key = str(path.with_name(name))
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield sample
                    sample = _Sample(key)
                _add(sample, archive, member, ending.lower(), shard)
            _check_end(archive)
    except (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or f"truncated or damaged after member {number}, or not an uncompressed .tar"
        raise BadInputError(f"{shard}: the shard cannot be read ({reason}). Write or download it again.") from None
    if sample is not None:
        yield sample


def _check_member(shard: Path, number: int, member: tarfile.TarInfo) -> None:
    wrong = "is sparse" if member.issparse() else tar_fault(member, _MAX_MEMBER)
    if wrong:
        raise BadInputError(f"{shard}: member {number} of the shard {wrong}; the shard is refused. Write it again from plain files.")


def _check_end(archive: tarfile.TarFile) -> None:
    """The module tarfile takes a damaged header for the end of the archive, and would leave out what follows."""
    file: Any = archive.fileobj
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != _EMPTY_BLOCK:
        raise tarfile.ReadError


def _add(sample: _Sample, archive: tarfile.TarFile, member: tarfile.TarInfo, ending: str, shard: Path) -> None:
    """Note where the image lies, or read the text."""
    if ending in _IMAGES:
        file: Any = archive.fileobj
        if member.offset_data + member.size > os.fstat(file.fileno()).st_size:
            raise tarfile.ReadError
        sample.twice |= bool(sample.image)
        sample.image = in_archive(shard, member.offset_data, member.size)
    elif ending in ("txt", "json"):
        sample.twice |= ending in sample.texts
        content: IO[bytes] | None = archive.extractfile(member) if member.size <= _MAX_TEXT else None
        sample.texts[ending] = content.read() if content else None


def _record(shard: Path, sample: _Sample, row: int) -> ReportRecord | str:
    """The sample's record, or why there is none; the reason quotes nothing."""
    if sample.twice:
        return "the sample has two images, two .txt or two .json"
    if not sample.image:
        return "the sample has no .png or .jpg"
    missing = next((ending for ending in ("txt", "json") if ending not in sample.texts), "")
    if missing:
        return f"the sample has no .{missing}"
    prompt = _text(sample.texts["txt"])
    if prompt is None or not cell(prompt):
        return "the prompt is empty, not UTF-8 text or far too long"
    values = _object(_text(sample.texts["json"]))
    if values is None:
        return "the .json is not one JSON object of UTF-8 text, or is far too long"
    subject, labels = cell(values.get("subject_id")), _labels(values.get("labels"))
    if not subject:
        return "the subject_id is empty or not text"
    if labels is None:
        return "the labels are not a list of names"
    name, view = f"{shard.stem}/{sample.key}", cell(values.get("view"))
    study = cell(values.get("study_id")) or name
    return ReportRecord(subject, study, name, cell(prompt), labels, view if view in ("PA", "AP") else "", sample.image, row=row)


def _text(content: bytes | None) -> str | None:
    try:
        return None if content is None else content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _object(text: str | None) -> dict[str, Any] | None:
    try:
        values = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _labels(value: object) -> tuple[str, ...] | None:
    """Names without blanks and repeats; none for a missing value (null, NaN); None for what is no list of names."""
    if not isinstance(value, list):
        return None if as_text(value) or isinstance(value, dict) else ()
    if not all(item is None or isinstance(item, (str, float)) for item in value):
        return None
    return tuple(dict.fromkeys(label for label in map(cell, value) if label))
