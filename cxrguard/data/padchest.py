"""Reads PadChest (``PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv`` and its numbered image folders).

**The reports are Spanish, and the sanitizer's rules are English: they do not cover them.** Markers, dates, names and
references to earlier studies in these reports are not found, and a count of zero means nothing. ``data.prompt=labels``
makes English prompts of the data set's labels instead; translated reports can be read with ``data=table``.

The images are 16-bit PNG, which need ``data.window`` (see :mod:`cxrguard.data.window`); or convert them to 8 bits first, with a
window that you choose and under the same names. This reader looks for them and opens none.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cxrguard.data.lazy import Keep
from cxrguard.data.paths import OUT_OF_ROOT, leads_out
from cxrguard.data.records import Quarantined, ReportRecord
from cxrguard.data.settings import data_root, one_of, some_of
from cxrguard.data.table import Row, cell, read_table
from cxrguard.errors import BadInputError
from cxrguard.progress import shown

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
PROMPTS = ("report", "labels")
VIEWS = ("frontal", "lateral", "PA", "AP")
SPANISH = (
    "PadChest's reports are Spanish: the sanitizer's rules are English and do not cover them, so markers, dates and names in them "
    "are not found. data.prompt=labels makes English prompts; or translate the reports and use data=table."
)
_IMAGE, _FOLDER, _STUDY, _PATIENT = "ImageID", "ImageDir", "StudyID", "PatientID"
_PROJECTION, _REPORT, _LABELS = "Projection", "Report", "Labels"
_SEX = "PatientSex_DICOM"
_NEEDED = (_IMAGE, _FOLDER, _STUDY, _PATIENT, _PROJECTION, _REPORT, _LABELS)
# projection: (kind, view); COSTAL and UNK are neither, and the authors set EXCLUDE aside
_PROJECTIONS = {
    "PA": ("frontal", "PA"),
    "AP": ("frontal", "AP"),
    "AP_horizontal": ("frontal", "AP"),
    "L": ("lateral", ""),
    "COSTAL": ("", ""),
    "UNK": ("", ""),
    "EXCLUDE": ("", ""),
}
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")


@dataclass(frozen=True)
class PadchestReader:
    """Reads PadChest from its own layout. Images are looked for, not opened.

    Args:
        root: the directory that holds the CSV and the images: in folders ``0`` to ``54``, as the archives unpack, or all
            in one, either under ``images/`` or not.
        prompt: ``report`` (Spanish, see the module) or ``labels`` (a short English report made of the labels).
        views: ``frontal`` (PA, AP and lying AP), ``lateral``, or ``PA`` or ``AP``; null keeps all but those that the
            authors excluded.

    """

    root: str
    prompt: str = "report"
    views: Sequence[str] | None = ("frontal",)

    def read(self, keep: Keep = list) -> tuple[Sequence[ReportRecord], list[Quarantined]]:
        """Return (records in the table's order, quarantined rows); warns that Spanish reports are not sanitized."""
        one_of("data.prompt", self.prompt, PROMPTS)
        views = some_of("data.views", self.views, VIEWS)
        root = _check(self.root)
        table = read_table(root / TABLE, _NEEDED, keep)
        quarantined = list(table.quarantined)
        records = keep(self._records(table.rows, _Folders(root), views, quarantined))
        if not records and not quarantined:
            raise BadInputError(f"{root / TABLE}: no row has a view that is asked for. Change data.views.")
        if records and self.prompt == "report":
            warnings.warn(SPANISH, stacklevel=2)
        return records, sorted(quarantined, key=lambda item: item.row)

    def _records(
        self, rows: Sequence[Row], folders: _Folders, views: Sequence[str] | None, quarantined: list[Quarantined]
    ) -> Iterator[ReportRecord]:
        """The usable rows' records; rows that cannot be used are added to ``quarantined``."""
        seen: set[str] = set()
        for row, values in shown("reading rows", rows):
            cells = {name: cell(values.get(name)) for name in (*_NEEDED, _SEX)}
            if not _wanted(cells[_PROJECTION], views):
                continue
            prompt = cells[_REPORT] if self.prompt == "report" else write_prompt(cells[_PROJECTION], read_labels(cells[_LABELS]))
            path = folders.find(cells[_FOLDER], cells[_IMAGE])
            reason = _unusable(cells, prompt, path, seen)
            if reason:
                quarantined.append(Quarantined(row, reason))
                continue
            seen.add(cells[_IMAGE])
            yield _record(row, cells, prompt, path)


def _check(root: str) -> Path:
    """Return the root, or raise one clear message for what is missing."""
    directory = data_root(root, "padchest", f"{TABLE} and the images")
    if (directory / TABLE).is_file():
        return directory
    packed = f"Unpack {TABLE}.gz with gunzip." if (directory / f"{TABLE}.gz").is_file() else "Download it from BIMCV's PadChest page."
    raise BadInputError(f"{directory}: {TABLE} is missing. {packed}")


@dataclass
class _Folders:
    """Where images lie. Each folder is listed once, when first asked for: that beats 160,000 calls of stat."""

    root: Path
    listed: dict[str, set[str]] = field(default_factory=dict)

    def find(self, folder: str, image: str) -> str:
        """The image's path, or "". Only names from a listing count, so none climbs out."""
        numbered = (folder, f"images/{folder}") if folder.isascii() and folder.isdigit() else ()
        for place in (*numbered, "images", "."):
            if image in self._list(place):
                return str(self.root / place / image)
        return ""

    def _list(self, place: str) -> set[str]:
        if place not in self.listed:
            path = self.root / place
            self.listed[place] = {entry.name for entry in os.scandir(path)} if path.is_dir() else set()
        return self.listed[place]


def _wanted(projection: str, views: Sequence[str] | None) -> bool:
    """Whether the row has a view that was asked for; unknown projections go on, to be quarantined."""
    if projection not in _PROJECTIONS or projection == "EXCLUDE":
        return projection != "EXCLUDE"
    return views is None or any(name in views for name in _PROJECTIONS[projection] if name)


def _unusable(cells: dict[str, str], prompt: str, path: str, seen: set[str]) -> str:
    """Why the row cannot be used, or "". Never quotes the row."""
    checks = (
        (not cells[_PATIENT], "the patient id is empty"),
        (not cells[_IMAGE], "the image id is empty"),
        (leads_out(cells[_IMAGE]), OUT_OF_ROOT),
        (cells[_PROJECTION] not in _PROJECTIONS, f"the projection is none of {', '.join(_PROJECTIONS)}"),
        (not prompt, "the report, or the labels where prompts are made of them, is empty"),
        (cells[_IMAGE] in seen, "the image is that of an earlier row"),
        (not path, "the image file is missing"),
    )
    return next((reason for wrong, reason in checks if wrong), "")


def _record(row: int, cells: dict[str, str], prompt: str, path: str) -> ReportRecord:
    labels = tuple("No Finding" if label == "normal" else label for label in read_labels(cells[_LABELS]))
    view = _PROJECTIONS[cells[_PROJECTION]][1]
    sex = cells[_SEX] if cells[_SEX] in ("F", "M") else ""
    name = cells[_IMAGE].removesuffix(".png")
    return ReportRecord(cells[_PATIENT], cells[_STUDY] or name, name, prompt, labels, view, path, row=row, sex=sex)


def read_labels(text: str) -> tuple[str, ...]:
    """The labels of a cell like ``['cardiomegaly', ' pleural effusion', '']``, without blanks and repeats.

    Args:
        text: the cell; read by pattern, never evaluated.

    """
    found = ((single or double).strip() for single, double in _QUOTED.findall(text))
    return tuple(dict.fromkeys(label for label in found if cell(label)))


def write_prompt(projection: str, labels: Sequence[str]) -> str:
    """Write a short English report, e.g. ``PA chest radiograph. Cardiomegaly.``; empty without labels."""
    view = _PROJECTIONS.get(projection, ("", ""))[1]
    start = f"{view} chest radiograph." if view else "Chest radiograph."
    return " ".join([start, *(label.capitalize() + "." for label in labels)]) if labels else ""
