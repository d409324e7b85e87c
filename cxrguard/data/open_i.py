"""Reads Open-I (Indiana University's chest X-rays) in either layout it comes in.

- The library's own: ``ecgen-radiology/*.xml`` (or ``NLMCXR_reports.tgz`` as it is) beside ``NLMCXR_png/``.
- The Kaggle copy: ``indiana_reports.csv`` and ``indiana_projections.csv`` beside ``images/images_normalized/``.

Patients are not known: every report counts as a patient of its own (``uid``), so a patient with two reports may fall on
both sides of a split. The XML does not say which image is frontal; ``indiana_projections.csv`` beside it does, and
without that file all images are kept, with a warning. 104 reports have no image and make no record.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxrguard.data.lazy import Keep
from cxrguard.data.open_i_reports import IMAGE_ID, UID, OpenIReport, headings, read_reports
from cxrguard.data.records import Quarantined, ReportRecord
from cxrguard.data.settings import PROMPTS, data_root, one_of, section_prompt, some_of
from cxrguard.data.table import as_text, cell, read_table
from cxrguard.errors import BadInputError

VIEWS = ("frontal", "lateral")
FOLDER, ARCHIVE, PNG = "ecgen-radiology", "NLMCXR_reports.tgz", "NLMCXR_png"
REPORTS, PROJECTIONS = "indiana_reports.csv", "indiana_projections.csv"
KAGGLE_IMAGES = ("images/images_normalized", "images_normalized", "images")


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
        prompt: see :func:`~cxrguard.data.settings.section_prompt`.
        views: ``frontal``, ``lateral``; null keeps both. Images whose view is not known are kept.

    """

    root: str
    prompt: str = "impression"
    views: Sequence[str] | None = ("frontal",)

    def read(self, keep: Keep = list) -> tuple[Sequence[ReportRecord], list[Quarantined]]:
        """Return (records, quarantined), records in the reports' (Kaggle: the projections') order."""
        one_of("data.prompt", self.prompt, PROMPTS)
        views = some_of("data.views", self.views, VIEWS)
        root, source = _find_source(self.root)
        folder = _find_images(root, source)
        films, quarantined = _csv_films(root) if source.name == REPORTS else _xml_films(root, source)
        if views is not None:
            _warn_unknown(films)
            films = [film for film in films if not film.view or film.view in views]
        records, bad = self._records(films, folder)
        if not records and not bad and not quarantined:
            raise BadInputError(f"{source}: no report has an image of the views asked for. Change data.views.")
        return keep(records), sorted([*quarantined, *bad], key=lambda item: item.row)

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
                text = section_prompt(self.prompt, report.findings, report.impression)
                records.append(ReportRecord(report.uid, report.uid, film.image, text, report.labels, image_path=path, row=film.row))
        return records, quarantined


def _find_source(root: str) -> tuple[Path, Path]:
    """Return (root, what holds the reports), or raise one clear message for what is missing."""
    directory = data_root(root, "open_i", f"{FOLDER}/, {ARCHIVE} or {REPORTS}, and the images")
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


def _csv_films(root: Path) -> tuple[list[_Film], list[Quarantined]]:
    reports = _csv_reports(root / REPORTS)
    table = read_table(root / PROJECTIONS, ["uid", "filename", "projection"])
    films: list[_Film] = []
    quarantined = list(table.quarantined)
    for row, values in table.rows:
        uid, file, view = (cell(values[name]) for name in ("uid", "filename", "projection"))
        if not UID.fullmatch(uid) or not IMAGE_ID.fullmatch(file):
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
        labels = headings(as_text(values.get("Problems")).split(";"))
        report = OpenIReport(f"CXR{uid}", findings, impression, labels, (), row)
        first = reports.setdefault(uid, report)
        if isinstance(first, OpenIReport) and replace(report, row=first.row) != first:
            reports[uid] = f"two rows of {REPORTS} have its uid and differ"
    return reports
