"""Reads CheXpert Plus (``df_chexpert_plus_240401.csv`` beside the images of its PNG or of CheXpert's JPG release).

The table names images as ``train/patient1/study1/view1_frontal.jpg``; they may lie under ``data.root`` itself, ``PNG/``,
``PNG/PNG/``, ``CheXpert-v1.0/`` or ``CheXpert-v1.0-small/``, and end in ``.png`` instead. Labels come from
``chexbert_labels/`` if it is there. Splits are made by patient here; the table's own column ``split`` is not used.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cxrguard.data.chexpert_labels import CHEXPERT_LABELS
from cxrguard.data.lazy import Keep
from cxrguard.data.paths import OUT_OF_ROOT, leads_out
from cxrguard.data.records import Quarantined, ReportRecord
from cxrguard.data.settings import PROMPTS, data_root, one_of, section_prompt, some_of
from cxrguard.data.table import Row, as_text, cell, read_table
from cxrguard.errors import BadInputError
from cxrguard.progress import shown

TABLE = "df_chexpert_plus_240401.csv"
VIEWS = ("frontal", "lateral", "PA", "AP")
IMAGE_FOLDERS = ("", "PNG", "PNG/PNG", "CheXpert-v1.0", "CheXpert-v1.0-small")
LABEL_FILES = {
    "impression": "chexbert_labels/impression_fixed.json",
    "findings": "chexbert_labels/findings_fixed.json",
    "both": "chexbert_labels/report_fixed.json",
}
_IMAGE, _PATIENT, _KIND, _POSITION = "path_to_image", "deid_patient_id", "frontal_lateral", "ap_pa"
_FINDINGS, _IMPRESSION = "section_findings", "section_impression"
_SEX, _SEXES = "sex", {"female": "F", "male": "M"}
_NEEDED = (_IMAGE, _PATIENT, _KIND, _POSITION, _FINDINGS, _IMPRESSION)
# folders and a file whose names do not start with a dot: the path can neither climb out nor be absolute
_INSIDE = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)+[A-Za-z0-9_-][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class ChexpertPlusReader:
    """Reads CheXpert Plus from its own layout. Images are looked for, not opened.

    Args:
        root: the directory that holds the CSV and the images.
        prompt: ``impression`` (else the findings), ``findings`` (else the impression) or ``both``.
        views: ``frontal``, ``lateral``, or ``PA`` or ``AP`` among the frontal ones; null keeps all.

    """

    root: str
    prompt: str = "impression"
    views: Sequence[str] | None = ("frontal",)

    def read(self, keep: Keep = list) -> tuple[Sequence[ReportRecord], list[Quarantined]]:
        """Return (records in the table's order, quarantined rows)."""
        one_of("data.prompt", self.prompt, PROMPTS)
        views = some_of("data.views", self.views, VIEWS)
        root, images = _check(self.root)
        table = read_table(root / TABLE, _NEEDED, keep)
        labels = read_labels(root / LABEL_FILES[self.prompt])
        quarantined = list(table.quarantined)
        records = keep(self._records(table.rows, views, images, labels, quarantined))
        if not records and not quarantined:
            raise BadInputError(f"{root / TABLE}: no row has a view that is asked for. Change data.views.")
        return records, sorted(quarantined, key=lambda item: item.row)

    def _records(
        self,
        rows: Sequence[Row],
        views: Sequence[str] | None,
        images: Path,
        labels: dict[str, tuple[str, ...]],
        quarantined: list[Quarantined],
    ) -> Iterator[ReportRecord]:
        """The usable rows' records; rows that cannot be used are added to ``quarantined``."""
        seen: set[str] = set()
        for row, values in shown("reading rows", rows):
            cells = {name: cell(values.get(name)) for name in (*_NEEDED, _SEX)}
            if not _wanted(cells, views):
                continue
            path = _find(images, cells[_IMAGE])
            reason = _unusable(cells, path, seen)
            if reason:
                quarantined.append(Quarantined(row, reason))
                continue
            seen.add(_name(cells))
            prompt = section_prompt(self.prompt, cells[_FINDINGS], cells[_IMPRESSION])
            yield _record(row, cells, prompt, labels.get(_name(cells), ()), path)


def _check(root: str) -> tuple[Path, Path]:
    """Return (root, where the table's image paths start), or raise one clear message for what is missing."""
    directory = data_root(root, "chexpert_plus", f"{TABLE} and the images")
    if not (directory / TABLE).is_file():
        raise BadInputError(f"{directory}: {TABLE} is missing. Download it from Stanford AIMI's CheXpert Plus page.")
    for name in IMAGE_FOLDERS:
        if any((directory / name / part).is_dir() for part in ("train", "valid")):
            return directory, directory / name
    raise BadInputError(f"{directory}: there are no images (train/ or valid/, here or in PNG/). Unpack PNG.zip into it.")


def _wanted(cells: dict[str, str], views: Sequence[str] | None) -> bool:
    """Whether the row has a view that was asked for; rows whose view cannot be read go on, to be quarantined."""
    kind = cells[_KIND].lower()
    return views is None or kind not in ("frontal", "lateral") or kind in views or _view(cells) in views


def _view(cells: dict[str, str]) -> str:
    return cells[_POSITION] if cells[_KIND].lower() == "frontal" and cells[_POSITION] in ("PA", "AP") else ""


def _name(cells: dict[str, str]) -> str:
    """The image's path without its ending, which differs between the releases."""
    return cells[_IMAGE].rpartition(".")[0] or cells[_IMAGE]


def _find(images: Path, name: str) -> str:
    """Where the image lies, or ""; a name that is no path inside the data set is never looked for."""
    if not _INSIDE.fullmatch(name):
        return ""
    stem, dot, ending = name.rpartition(".")
    paths = (str(images / f"{stem}.{end}") for end in dict.fromkeys((ending, "png", "jpg")) if dot)
    return next((path for path in paths if os.path.isfile(path)), "")


def _unusable(cells: dict[str, str], path: str, seen: set[str]) -> str:
    """Why the row cannot be used, or "". Never quotes the row."""
    checks = (
        (not cells[_PATIENT], "the patient id is empty"),
        (leads_out(cells[_IMAGE]), OUT_OF_ROOT),
        (not _INSIDE.fullmatch(cells[_IMAGE]), "the image path is not a path inside the data set"),
        (cells[_KIND].lower() not in ("frontal", "lateral"), "frontal_lateral is not Frontal or Lateral"),
        (not cells[_FINDINGS] and not cells[_IMPRESSION], "the report has neither findings nor impression"),
        (_name(cells) in seen, "the image is that of an earlier row"),
        (not path, "the image file is missing"),
    )
    return next((reason for wrong, reason in checks if wrong), "")


def _record(row: int, cells: dict[str, str], prompt: str, labels: tuple[str, ...], path: str) -> ReportRecord:
    name = _name(cells)
    study = "/".join(PurePosixPath(name).parts[-3:-1])
    return ReportRecord(cells[_PATIENT], study, name, prompt, labels, _view(cells), path, row=row, sex=_SEXES.get(cells[_SEX].lower(), ""))


def read_labels(path: Path) -> dict[str, tuple[str, ...]]:
    """Findings that CheXbert calls present (1), by image path without ending; blank, NaN, 0 and −1 are not.

    Args:
        path: JSON lines with ``path_to_image`` and a value for each label; empty result if there is no such file.

    Raises:
        BadInputError: the file is not that; the message names the line.

    """
    if not path.is_file():
        return {}
    labels: dict[str, tuple[str, ...]] = {}
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):  # noqa: B007 - used in the message
                if line.strip():
                    values = json.loads(line)
                    name = as_text(values[_IMAGE])
                    labels[name.rpartition(".")[0]] = tuple(label for label in CHEXPERT_LABELS if as_text(values.get(label)) == "1")
    except UnicodeDecodeError:
        raise BadInputError(f"{path}: the labels are not UTF-8 text. Download the file again.") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise BadInputError(f"{path}: line {number} is not a JSON object with {_IMAGE}. Download the file again.") from None
    return labels
