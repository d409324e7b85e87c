"""Reads NIH ChestX-ray14 (``Data_Entry_2017_v2020.csv`` beside its images) and writes the reports it lacks.

The data set has finding labels but no reports, so a short prompt is made in the style of a MIMIC-CXR report, with
``___`` where MIMIC-CXR would have put it: MIMIC-CXR masks the age.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrguard.data.lazy import Keep
from cxrguard.data.paths import OUT_OF_ROOT, leads_out
from cxrguard.data.records import Quarantined, ReportRecord
from cxrguard.data.settings import data_root, some_of
from cxrguard.data.table import Row, cell, read_table
from cxrguard.errors import BadInputError
from cxrguard.progress import shown

TABLE = "Data_Entry_2017_v2020.csv"
VIEWS = ("PA", "AP")
_IMAGE, _LABELS, _PATIENT = "Image Index", "Finding Labels", "Patient ID"
_AGE, _SEX, _VIEW = "Patient Age", "Patient Gender", "View Position"
_AGE_TEXT = re.compile(r"[0-9]{1,3}")
_PART = re.compile(r"images_[0-9]{3}")  # NIH gives the images out in twelve archives
_MAX_AGE = 120
_ADULT = 18
_VIEW_WORDS = {"PA": "PA", "AP": "Portable AP"}


@dataclass(frozen=True)
class NihCxr14Reader:
    """Reads NIH ChestX-ray14 from its own layout. Images are looked for, not opened.

    Args:
        root: the directory that holds the CSV and the images: in ``images/``, in ``images_001/images/`` to ``images_012/images/``,
            or in both.
        views: keep these view positions only (``PA``, ``AP``); None keeps both.
        deid_markers: mask the age with ``___`` as MIMIC-CXR does; False writes the age.

    """

    root: str
    views: Sequence[str] | None = None
    deid_markers: bool = True

    def read(self, keep: Keep = list) -> tuple[Sequence[ReportRecord], list[Quarantined]]:
        """Return (records in the table's order, quarantined rows)."""
        root, views = self._check()
        table = read_table(root / TABLE, [_IMAGE, _LABELS, _PATIENT, _AGE, _SEX, _VIEW], keep)
        quarantined = list(table.quarantined)
        records = keep(self._records(table.rows, _listing(root), views, quarantined))
        if not records and not quarantined:
            raise BadInputError(f"{root / TABLE}: no row has a view position in {', '.join(views)}. Change data.views.")
        return records, sorted(quarantined, key=lambda item: item.row)

    def _records(
        self, rows: Sequence[Row], present: dict[str, Path], views: Sequence[str], quarantined: list[Quarantined]
    ) -> Iterator[ReportRecord]:
        """The usable rows' records; rows that cannot be used are added to ``quarantined``."""
        seen: set[str] = set()
        for row, values in shown("reading rows", rows):
            cells = {name: cell(value) for name, value in values.items()}
            reason = _unusable(cells, present, seen)
            if reason:
                quarantined.append(Quarantined(row, reason))
                continue
            seen.add(cells[_IMAGE])
            if cells[_VIEW] in views:
                yield self._record(row, cells, present[cells[_IMAGE]])

    def _check(self) -> tuple[Path, tuple[str, ...]]:
        """Return (root, views), or raise one clear message for what is missing."""
        root = data_root(self.root, "nih_cxr14", f"{TABLE} and images/ or images_001/")
        if not (root / TABLE).is_file():
            raise BadInputError(f"{root}: {TABLE} is missing. Download it from NIH's ChestX-ray14 page into this directory.")
        views = some_of("data.views", self.views, VIEWS) or VIEWS
        return root, views

    def _record(self, row: int, cells: dict[str, str], directory: Path) -> ReportRecord:
        labels = _labels(cells)
        name = cells[_IMAGE].rpartition(".")[0] or cells[_IMAGE]
        prompt = write_prompt(cells[_VIEW], cells[_SEX], int(cells[_AGE]), labels, self.deid_markers)
        path = str(directory / cells[_IMAGE])
        return ReportRecord(cells[_PATIENT], name, name, prompt, labels, cells[_VIEW], path, row=row, sex=cells[_SEX])


def _listing(root: Path) -> dict[str, Path]:
    """The directory of every image: one listing beats 112,120 calls of stat.

    Raises:
        BadInputError: there is neither ``images/`` nor a part of it.

    """
    parts = sorted((root / name / "images" for name in os.listdir(root) if _PART.fullmatch(name)), reverse=True)
    directories = [path for path in (*parts, root / "images") if path.is_dir()]  # the last one that has an image counts
    if not directories:
        raise BadInputError(
            f"{root}: images/ is missing, and so are images_001/images/ to images_012/images/. Unpack NIH's archives into one of them."
        )
    return {entry.name: path for path in directories for entry in os.scandir(path)}


def _labels(cells: dict[str, str]) -> tuple[str, ...]:
    return tuple(label.strip() for label in cells[_LABELS].split("|") if label.strip())


def _unusable(cells: dict[str, str], present: Container[str], seen: set[str]) -> str:
    """Why the row cannot be used, or "". Never quotes the row."""
    if not cells[_PATIENT]:
        return "the patient id is empty"
    if not _labels(cells):
        return "the finding labels are empty"
    if not _AGE_TEXT.fullmatch(cells[_AGE]) or int(cells[_AGE]) > _MAX_AGE:
        return f"the age is not a whole number from 0 to {_MAX_AGE}"
    if cells[_SEX] not in ("M", "F"):
        return "the sex is not M or F"
    if cells[_VIEW] not in VIEWS:
        return "the view position is not PA or AP"
    if leads_out(cells[_IMAGE]):
        return OUT_OF_ROOT
    if cells[_IMAGE] in seen:
        return "the image is that of an earlier row"
    return "" if cells[_IMAGE] in present else "the image file is missing"


def write_prompt(view: str, sex: str, age: int, labels: Sequence[str], deid_markers: bool) -> str:
    """Write a short report, e.g. ``PA chest radiograph of a ___ year old man. Mass.`` and so on."""
    person = ("woman" if age >= _ADULT else "girl") if sex == "F" else ("man" if age >= _ADULT else "boy")
    years = "___" if deid_markers else str(age)
    # said aloud: eight, eleven, eighteen, eighty; an age is never 800
    article = "an" if years.startswith("8") or years in ("11", "18") else "a"
    findings = " ".join(label.replace("_", " ").capitalize() + "." for label in labels)
    return f"{_VIEW_WORDS[view]} chest radiograph of {article} {years} year old {person}. {findings}"
