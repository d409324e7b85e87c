"""Reads Open-I (Indiana University's chest X-rays) in either layout it comes in.

- The library's own: ``ecgen-radiology/*.xml`` (or ``NLMCXR_reports.tgz`` as it is) beside ``NLMCXR_png/``.
- The Kaggle copy: ``indiana_reports.csv`` and ``indiana_projections.csv`` beside ``images/images_normalized/``.

Patients are not known: every report counts as a patient of its own (``uid``), so a patient with two reports may fall on
both sides of a split. The XML does not say which image is frontal; ``indiana_projections.csv`` beside it does, and
without that file all images are kept, with a warning. 104 reports have no image and make no record.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import tarfile
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO, cast
from xml.etree import ElementTree

from cxrguard.data.records import Quarantined, ReportRecord
from cxrguard.data.table import as_text, read_table
from cxrguard.errors import BadInputError

PROMPTS = ("impression", "findings", "both")
VIEWS = ("frontal", "lateral")
FOLDER, ARCHIVE, PNG = "ecgen-radiology", "NLMCXR_reports.tgz", "NLMCXR_png"
REPORTS, PROJECTIONS = "indiana_reports.csv", "indiana_projections.csv"
KAGGLE_IMAGES = ("images/images_normalized", "images_normalized", "images")
MAX_REPORT = 2**20  # bytes; the largest real one has 8,967
MAX_ARCHIVE = 2**27  # bytes unpacked; the real one has 25 MB
MAX_MEMBERS = 20_000  # the real one has 3,956
_UID = re.compile(r"[A-Za-z0-9]{1,32}")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,120}")
_MISSING = frozenset(("nan", "none", "null", "n/a", "<na>"))


def cell(value: object) -> str:
    """A cell's text; "" also for the words that pandas and spreadsheets write where a value is missing."""
    text = as_text(value)
    return "" if text.lower() in _MISSING else text


def write_prompt(prompt: str, findings: str, impression: str) -> str:
    """Choose the prompt among the report's sections.

    Args:
        prompt: ``impression`` (else the findings), ``findings`` (else the impression), as for MIMIC-CXR, or ``both``
            (findings, then impression, a line each).
        findings: the section's text, may be empty.
        impression: likewise.

    Returns:
        The text; empty only if both sections are.

    """
    if prompt == "both":
        return "\n".join(text for text in (findings, impression) if text)
    return (findings or impression) if prompt == "findings" else (impression or findings)


def check_choices(prompt: str, prompts: Sequence[str], views: Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...] | None:
    """Return the views asked for (None for all), or raise if ``data.prompt`` or ``data.views`` is none of the known."""
    if prompt not in prompts:
        raise BadInputError(f"data.prompt must be one of {', '.join(prompts)}.")
    if views is None:
        return None
    chosen = (views,) if isinstance(views, str) else tuple(views)
    if not chosen or not set(chosen) <= set(known):
        raise BadInputError(f"data.views must be some of {', '.join(known)}, or null for all.")
    return chosen


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


@dataclass(frozen=True)
class _Film:
    """One image: where it should lie and its report, or why it cannot have one."""

    row: int
    image: str
    file: str
    view: str  # frontal, lateral, or "" if not known
    report: OpenIReport | str


@dataclass(frozen=True)
class OpenIReader:
    """Reads Open-I. Images are looked for, not opened.

    A quarantined row is the n-th report by number in the XML layout, a row of ``indiana_projections.csv`` in Kaggle's.

    Args:
        root: the directory of either layout; XML wins over CSV, and unpacked XML over the archive.
        prompt: see :func:`write_prompt`.
        views: ``frontal``, ``lateral``; null keeps both. Images whose view is not known are kept.

    """

    root: str
    prompt: str = "impression"
    views: Sequence[str] | None = ("frontal",)

    def read(self) -> tuple[list[ReportRecord], list[Quarantined]]:
        """Return (records, quarantined), records in the reports' (Kaggle: the projections') order."""
        views = check_choices(self.prompt, PROMPTS, self.views, VIEWS)
        root, source = _find_source(self.root)
        folder = _find_images(root, source)
        films, quarantined = _csv_films(root) if source.name == REPORTS else _xml_films(root, source)
        if views is not None:
            _warn_unknown(films)
            films = [film for film in films if not film.view or film.view in views]
        records, bad = self._records(films, folder)
        if not records and not bad and not quarantined:
            raise BadInputError(f"{source}: no report has an image of the views asked for. Change data.views.")
        return records, sorted([*quarantined, *bad], key=lambda item: item.row)

    def _records(self, films: Iterable[_Film], folder: Path) -> tuple[list[ReportRecord], list[Quarantined]]:
        present = {entry.name for entry in os.scandir(folder)}
        records: list[ReportRecord] = []
        quarantined: list[Quarantined] = []
        seen: set[str] = set()
        for film in films:
            reason = _unusable(film, present, seen)
            seen.add(film.image)
            if reason or isinstance(film.report, str):
                quarantined.append(Quarantined(film.row, reason))
            else:
                report, path = film.report, str(folder / film.file)
                text = write_prompt(self.prompt, report.findings, report.impression)
                records.append(ReportRecord(report.uid, report.uid, film.image, text, report.labels, image_path=path, row=film.row))
        return records, quarantined


def _find_source(root: str) -> tuple[Path, Path]:
    """Return (root, what holds the reports), or raise one clear message for what is missing."""
    if not root:
        raise BadInputError(f"No data directory is given. Set data.root=/path/to/open_i (it holds {FOLDER}/ or {ARCHIVE}, and {PNG}/).")
    directory = Path(root).expanduser()
    if not directory.is_dir():
        raise BadInputError(f"{directory}: there is no such directory. Set data.root to the one that holds Open-I.")
    for path, there in ((directory / FOLDER, Path.is_dir), (directory / ARCHIVE, Path.is_file), (directory / REPORTS, Path.is_file)):
        if there(path):
            return directory, path
    raise BadInputError(f"{directory}: neither {FOLDER}/ nor {ARCHIVE} nor {REPORTS} is there. Download one of them into it.")


def _find_images(root: Path, source: Path) -> Path:
    if source.name != REPORTS:
        if not (root / PNG).is_dir():
            raise BadInputError(f"{root}: the directory {PNG}/ is missing. Unpack NLMCXR_png.tgz into it.")
        return root / PNG
    if not (root / PROJECTIONS).is_file():
        raise BadInputError(f"{root}: {PROJECTIONS} is missing. Download it beside {REPORTS}.")
    for name in KAGGLE_IMAGES:
        if (root / name).is_dir():
            return root / name
    raise BadInputError(f"{root}: the directory {KAGGLE_IMAGES[0]}/ is missing. Unpack the data set's images into it.")


def _unusable(film: _Film, present: set[str], seen: set[str]) -> str:
    """Why the image cannot be used, or ""."""
    if film.image in seen:
        return "the image is that of an earlier row"
    if isinstance(film.report, str):
        return film.report
    if not film.report.findings and not film.report.impression:
        return "the report has neither findings nor impression"
    return "" if film.file in present else "the image file is missing"


def _warn_unknown(films: Sequence[_Film]) -> None:
    unknown = sum(not film.view for film in films)
    if unknown:
        message = f"Open-I: {unknown} of {len(films)} images have no known view and are kept, whatever they show. "
        message += f"Put {PROJECTIONS} (of the Kaggle copy) into data.root to tell them apart."
        warnings.warn(message, stacklevel=3)


# --- the XML layout ---------------------------------------------------------------------------------------------------


def _xml_films(root: Path, source: Path) -> tuple[list[_Film], list[Quarantined]]:
    reports, quarantined = read_reports(source)
    views = _projections(root / PROJECTIONS) if (root / PROJECTIONS).is_file() else {}
    films = [_Film(r.row, image, f"{image}.png", views.get(image, ""), r) for r in reports for image in r.images]
    return films, quarantined


def _projections(path: Path) -> dict[str, str]:
    """Views by image id."""
    table = read_table(path, ["uid", "filename", "projection"])
    rows = [{name: cell(value) for name, value in values.items()} for _, values in table.rows]
    return {_image_id(r["uid"], r["filename"]): r["projection"].lower() for r in rows if r["projection"].lower() in VIEWS}


def _image_id(uid: str, filename: str) -> str:
    """Kaggle's ``1_IM-0001-3001.dcm.png`` of uid 1 is the library's ``CXR1_1_IM-0001-3001``."""
    return f"CXR{uid}_{filename.removesuffix('.png').removesuffix('.dcm')}"


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
    if len(ids) != 1 or not _UID.fullmatch(ids[0]):
        return "the report has not one uId"
    if not all(_IMAGE.fullmatch(image) for image in images):
        return "an image id is not a plain name"
    sections: dict[str, list[str]] = {}
    for element in root.iter("AbstractText"):
        sections.setdefault(element.get("Label", "").upper(), []).append("".join(element.itertext()).strip())
    findings, impression = ("\n".join(filter(None, sections.get(name, []))) for name in ("FINDINGS", "IMPRESSION"))
    terms = [element.text or "" for mesh in root.iter("MeSH") for element in mesh.iter("major")]
    return OpenIReport(ids[0], findings, impression, _labels(terms), images, row)


def _labels(terms: Iterable[str]) -> tuple[str, ...]:
    """The headings of ``Heading/qualifier/qualifier`` terms."""
    headings = (cell(term.split("/")[0]) for term in terms)
    return tuple(dict.fromkeys("No Finding" if heading == "normal" else heading for heading in headings if heading))


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
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name:
        wrong = "climbs out of it"
    elif not (member.isfile() or member.isdir()):
        wrong = "is a link or a device"
    elif member.size > MAX_REPORT:
        wrong = f"has more than {MAX_REPORT >> 20} MiB"
    elif number > MAX_MEMBERS:
        wrong = f"is one more than {MAX_MEMBERS:,}"
    else:
        return
    raise BadInputError(f"{path}: member {number} of the archive {wrong}; the archive is refused. Download it again from Open-I.")


# --- the Kaggle copy --------------------------------------------------------------------------------------------------


def _csv_films(root: Path) -> tuple[list[_Film], list[Quarantined]]:
    reports = _csv_reports(root / REPORTS)
    table = read_table(root / PROJECTIONS, ["uid", "filename", "projection"])
    films: list[_Film] = []
    quarantined = list(table.quarantined)
    for row, values in table.rows:
        uid, file, view = (cell(values[name]) for name in ("uid", "filename", "projection"))
        if not _UID.fullmatch(uid) or not _IMAGE.fullmatch(file):
            quarantined.append(Quarantined(row, "the uid or the filename is empty or not a plain name"))
        elif view.lower() not in VIEWS:
            quarantined.append(Quarantined(row, "the projection is not Frontal or Lateral"))
        else:
            report = reports.get(uid, f"no row of {REPORTS} that can be read has its uid")
            films.append(_Film(row, _image_id(uid, file), file, view.lower(), report))
    return films, quarantined


def _csv_reports(path: Path) -> dict[str, OpenIReport | str]:
    """Reports by uid; a reason where two rows give one uid different reports."""
    table = read_table(path, ["uid", "findings", "impression"])
    reports: dict[str, OpenIReport | str] = {}
    for row, values in table.rows:
        uid, findings, impression = (cell(values[name]) for name in ("uid", "findings", "impression"))
        labels = _labels(as_text(values.get("Problems")).split(";"))
        report = OpenIReport(f"CXR{uid}", findings, impression, labels, (), row)
        first = reports.setdefault(uid, report)
        if isinstance(first, OpenIReport) and replace(report, row=first.row) != first:
            reports[uid] = f"two rows of {REPORTS} have its uid and differ"
    return reports
