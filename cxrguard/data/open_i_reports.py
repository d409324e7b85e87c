"""Open-I's reports: the XML of each, from a directory or from the archive as it is. Nothing is ever unpacked to disk or expanded."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, cast
from xml.etree import ElementTree

from cxrguard.data.archives import tar_fault
from cxrguard.data.records import Quarantined
from cxrguard.data.table import cell
from cxrguard.errors import BadInputError

MAX_REPORT = 2**20  # bytes; the largest real one has 8,967
MAX_ARCHIVE = 2**27  # bytes unpacked; the real one has 25 MB
MAX_MEMBERS = 20_000  # the real one has 3,956
UID = re.compile(r"[A-Za-z0-9]{1,32}")
IMAGE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,120}")


@dataclass(frozen=True)
class OpenIReport:
    """One report.

    Attributes:
        uid: the report, and the patient as far as known, e.g. ``CXR1``.
        findings: protected text, may be empty.
        impression: likewise.
        labels: headings of the MeSH terms that indexers gave it.
        images: ids of its images, e.g. ``CXR1_1_IM-0001-3001``; empty in the Kaggle copy, which lists them elsewhere.
        row: its place among all reports, from 1: by number for the XML files, else in the table.

    """

    uid: str = field(repr=False)
    findings: str = field(repr=False)
    impression: str = field(repr=False)
    labels: tuple[str, ...]
    images: tuple[str, ...] = field(repr=False)
    row: int


def read_reports(path: Path) -> tuple[list[OpenIReport], list[Quarantined]]:
    """Parse every report of a directory of XML files, or of the archive, without looking for images.

    Args:
        path: ``ecgen-radiology`` or ``NLMCXR_reports.tgz``.

    Returns:
        (reports by number, quarantined); a row is a report's place among all, by number, from 1.

    Raises:
        BadInputError: there is no report, or the archive is damaged or one that no honest tool makes.

    """
    files = list(_archived(path) if path.is_file() else _unpacked(path))
    if not files:
        raise BadInputError(f"{path}: there is no report (*.xml) in it. Download it again.")
    files.sort(key=lambda item: (len(item[0]), item[0]))  # 2.xml before 10.xml
    reports: list[OpenIReport] = []
    quarantined: list[Quarantined] = []
    seen: set[str] = set()
    for row, (_, data) in enumerate(files, start=1):
        report = parse_report(data, row)
        if isinstance(report, OpenIReport) and report.uid not in seen:
            seen.add(report.uid)
            reports.append(report)
        else:
            quarantined.append(Quarantined(row, report if isinstance(report, str) else "the report is that of an earlier row"))
    return reports, quarantined


def parse_report(data: bytes | None, row: int) -> OpenIReport | str:
    """One report, or why it cannot be used; the reason never quotes it.

    Document types and entities are refused before the parser sees them, so nothing is ever expanded. The text is decoded
    here, whatever encoding it declares, so that no other encoding hides a declaration.
    """
    if data is None:
        return "the report is no plain file that can be read"
    if len(data) > MAX_REPORT:
        return "the report is too large to be one of Open-I's"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "the report is not UTF-8 text"
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return "the report declares a document type or an entity, which is refused"
    try:
        return _report(ElementTree.fromstring(text), row)
    except (ElementTree.ParseError, ValueError):
        return "the report is not well-formed XML"


def _report(root: ElementTree.Element, row: int) -> OpenIReport | str:
    ids = [element.get("id", "") for element in root.iter("uId")]
    images = tuple(dict.fromkeys(element.get("id", "") for element in root.iter("parentImage")))
    if len(ids) != 1 or not UID.fullmatch(ids[0]):
        return "the report has not one uId"
    if not all(IMAGE_ID.fullmatch(image) for image in images):
        return "an image id is not a plain name"
    sections: dict[str, list[str]] = {}
    for element in root.iter("AbstractText"):
        sections.setdefault(element.get("Label", "").upper(), []).append("".join(element.itertext()).strip())
    findings, impression = ("\n".join(filter(None, sections.get(name, []))) for name in ("FINDINGS", "IMPRESSION"))
    terms = [element.text or "" for mesh in root.iter("MeSH") for element in mesh.iter("major")]
    return OpenIReport(ids[0], findings, impression, headings(terms), images, row)


def headings(terms: Iterable[str]) -> tuple[str, ...]:
    """The headings of ``Heading/qualifier/qualifier`` terms."""
    found = (cell(term.split("/")[0]) for term in terms)
    return tuple(dict.fromkeys("No Finding" if heading == "normal" else heading for heading in found if heading))


def _unpacked(folder: Path) -> Iterator[tuple[str, bytes | None]]:
    """(name, bytes) of each XML file, None where it is no plain file (a FIFO would block for ever)."""
    for entry in os.scandir(folder):
        if not entry.name.endswith(".xml") or entry.name.startswith("."):
            continue
        data = None
        if entry.is_file():
            with contextlib.suppress(OSError), open(entry.path, "rb") as file:
                data = file.read(MAX_REPORT + 1)
        yield entry.name, data


class _Bounded:
    """A stream that ends with an error after so many bytes, however small the archive that makes them."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream, self._left = stream, limit

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise OverflowError
        return data


def _archived(path: Path) -> list[tuple[str, bytes | None]]:
    """(name, bytes) of each XML member; nothing is written to disk."""
    files: list[tuple[str, bytes | None]] = []
    try:
        with gzip.open(path) as unzipped:
            stream = _Bounded(unzipped, MAX_ARCHIVE)
            # "r|" reads block by block: with "r:" one header could ask for gigabytes at once
            with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as archive:
                for number, member in enumerate(archive, start=1):
                    _check_member(path, number, member)
                    name = PurePosixPath(member.name).name
                    if member.isfile() and name.endswith(".xml") and not name.startswith("."):
                        content = archive.extractfile(member)
                        files.append((name, content.read(MAX_REPORT + 1) if content else None))
            while stream.read(2**16):  # to the end: only there gzip compares the checksum
                pass
    except OverflowError:
        raise BadInputError(f"{path}: unpacked it has more than {MAX_ARCHIVE >> 20} MiB, refused. Download it again.") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "damaged, or not a .tgz"
        raise BadInputError(f"{path}: the archive cannot be read ({reason}). Download it again.") from None
    return files


def _check_member(path: Path, number: int, member: tarfile.TarInfo) -> None:
    """Refuse the archive for what an honest one never holds; nothing is unpacked, but what else it holds is no report."""
    wrong = tar_fault(member, MAX_REPORT) or (f"is one more than {MAX_MEMBERS:,}" if number > MAX_MEMBERS else "")
    if wrong:
        raise BadInputError(f"{path}: member {number} of the archive {wrong}; the archive is refused. Download it again from Open-I.")
