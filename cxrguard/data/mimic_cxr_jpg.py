"""Reads MIMIC-CXR-JPG 2.1.0 (tables beside ``files/``) with the reports of MIMIC-CXR (a directory, or the zip as it is).

The tables are streamed and the images looked for, not opened. An id is checked by pattern before it becomes part of a
path. The side tables (split, labels) are taken whole or refused; the metadata's rows are quarantined one by one.
"""

from __future__ import annotations

import csv
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cxrguard.data.chexpert_labels import CHEXPERT_LABELS
from cxrguard.data.lazy import Keep
from cxrguard.data.mimic_images import ANNOTATED_PROMPT, ANNOTATION_IMAGES, DICOM, STUDY, SUBJECT, MimicImage, annotated_prompt
from cxrguard.data.records import Quarantined, ReportRecord
from cxrguard.data.report_sections import ReportError, open_prompts
from cxrguard.data.settings import PROMPTS, data_root, one_of, some_of
from cxrguard.data.text_lines import bounded_lines, open_text
from cxrguard.errors import BadInputError
from cxrguard.progress import shown

METADATA, SPLIT = "mimic-cxr-2.0.0-metadata.csv", "mimic-cxr-2.0.0-split.csv"
LABEL_TABLES = {"chexpert": "mimic-cxr-2.0.0-chexpert.csv", "negbio": "mimic-cxr-2.0.0-negbio.csv"}
FRONTAL = ("PA", "AP")
_OTHER_VIEWS = ("LATERAL", "LL", "AP AXIAL", "AP LLD", "AP RLD", "PA LLD", "PA RLD", "LAO", "RAO", "LPO", "SWIMMERS", "XTABLE LATERAL")
SPLITS = ("train", "validate", "test")
_DICOM, _SUBJECT, _STUDY, _VIEW = "dicom_id", "subject_id", "study_id", "ViewPosition"
_FORMS = {_DICOM: re.compile(DICOM), _SUBJECT: re.compile(SUBJECT), _STUDY: re.compile(STUDY)}
_POSITIVE, _NOT_POSITIVE = ("1.0", "1"), ("0.0", "0", "-1.0", "-1", "", "nan", "NaN")
_AGAIN = "Download it again from PhysioNet and compare its SHA256SUMS.txt."
_MAX_LINE, _MAX_TABLE = 1 << 20, 1 << 30  # characters; the real ones have 377,110 rows, below 100 MB


class _Unusable(Exception):
    """One sample cannot be used; the text says why and quotes nothing."""


@dataclass(frozen=True)
class _Image(MimicImage):
    def record(self, root: Path, prompt_of: Callable[[_Image], str], labels: tuple[str, ...], view: str, row: int) -> ReportRecord:
        path = root / self.path
        if not os.path.isfile(path):  # unlike Path.is_file, False where a directory may not be entered
            raise _Unusable("the image file is missing or cannot be reached")
        return ReportRecord(self.subject, self.study, self.dicom, prompt_of(self), labels, view, str(path), row=row)


@dataclass(frozen=True)
class MimicCxrJpgReader:
    """Reads MIMIC-CXR-JPG from its own layout.

    Args:
        root: the directory that holds the tables (``.csv`` or ``.csv.gz``) and ``files/``.
        reports: ``mimic-cxr-reports.zip``, or the directory that holds it or its ``files/``; ``root`` if empty.
        prompt: ``impression``, ``findings``, ``both`` (see :func:`~cxrguard.data.report_sections.choose_prompt`), or
            ``annotated``: the column ``annotated_prompt`` of ``annotations``; no report is read then.
        views: keep these view positions only; None keeps all.
        split: keep the images of these splits (``train``, ``validate``, ``test``) only; None keeps all.
        labels: whose labels: ``chexpert``, ``negbio``, or None for none; a record gets the positive ones.
        annotations: a CSV with ``path`` (or ``dicom_id``, ``image``, ``image_path``) and ``annotated_prompt``.

    """

    root: str
    reports: str = ""
    prompt: str = "impression"
    views: Sequence[str] | None = FRONTAL
    split: Sequence[str] | None = None
    labels: str | None = "chexpert"
    annotations: str = ""

    def read(self, keep: Keep = list) -> tuple[Sequence[ReportRecord], list[Quarantined]]:
        """Return (records in the metadata's order, quarantined rows)."""
        root = self._check()
        splits, views = self._splits(root), frozenset(self.views or ())  # sets: Hydra's lists take microseconds a look-up
        labels = {} if self.labels is None else _read_labels(_need(root, LABEL_TABLES[self.labels]))
        quarantined: list[Quarantined] = []
        records = keep(self._records(root, splits, views, labels, quarantined))
        if not records and not quarantined:
            raise BadInputError(f"{root / METADATA}: no row has a view and a split that are asked for. Change data.views or data.split.")
        return records, quarantined

    def _records(
        self,
        root: Path,
        splits: _Splits | None,
        views: frozenset[str],
        labels: dict[str, tuple[str, ...]],
        quarantined: list[Quarantined],
    ) -> Iterator[ReportRecord]:
        """The usable rows' records; rows that cannot be used are added to ``quarantined``."""
        seen: set[str] = set()
        with self._prompts(root) as prompt_of:
            rows = _rows(_need(root, METADATA), (_DICOM, _SUBJECT, _STUDY, _VIEW))
            for row, cells in shown("reading reports", rows, _count_rows(_need(root, METADATA))):
                try:
                    image = _select(cells, views, splits, seen)
                    if image is not None:
                        view = cells[3] if cells[3] in FRONTAL else ""
                        yield image.record(root, prompt_of, labels.get(image.study, ()), view, row)
                except (_Unusable, ReportError) as error:
                    quarantined.append(Quarantined(row, str(error)))

    def _check(self) -> Path:
        """Return the root, or raise one clear message for what is missing or misspelt."""
        root = data_root(self.root, "mimic-cxr-jpg", f"{METADATA} and files/")
        if not (root / "files").is_dir():
            raise BadInputError(f"{root}: the directory files/ is missing. Download MIMIC-CXR-JPG's images into it.")
        one_of("data.prompt", self.prompt, (*PROMPTS, "annotated"))
        if self.labels is not None:
            one_of("data.labels", self.labels, tuple(LABEL_TABLES))
        some_of("data.views", self.views, FRONTAL + _OTHER_VIEWS)
        some_of("data.split", self.split, SPLITS)
        return root

    def _splits(self, root: Path) -> _Splits | None:
        """The splits if some are asked for; a table that leaks a patient is refused in any case."""
        path = _find(root, SPLIT) if self.split is None else _need(root, SPLIT)
        splits = None if path is None else _Splits(path, frozenset(self.split or ()))
        return None if self.split is None else splits

    @contextmanager
    def _prompts(self, root: Path) -> Iterator[Callable[[_Image], str]]:
        """Where prompts come from, open while the metadata is read."""
        if self.prompt == "annotated":
            yield _Annotated(self.annotations).of
            return
        with open_prompts(Path(self.reports or root).expanduser(), self.prompt) as prompt_of:
            yield lambda image: prompt_of(image.report)


def _select(cells: Sequence[str], views: frozenset[str], splits: _Splits | None, seen: set[str]) -> _Image | None:
    """The row's image, or None if it is not asked for."""
    if not cells:
        raise _Unusable("the number of fields differs from the header's")
    if views and cells[3] not in views:
        return None
    for name, value in zip(_FORMS, cells, strict=False):
        if not _FORMS[name].fullmatch(value):
            raise _Unusable(f"the {name} is empty or not of MIMIC-CXR's form")
    image = _Image(*cells[:3])
    if splits is not None and not splits.holds(image):
        return None
    if image.dicom in seen:
        raise _Unusable("the image is that of an earlier row")
    seen.add(image.dicom)
    return image


def _find(root: Path, name: str) -> Path | None:
    """The table ``name``, plain or gzipped."""
    return next((path for path in (root / name, root / f"{name}.gz") if path.is_file()), None)


def _need(root: Path, name: str) -> Path:
    path = _find(root, name)
    if path is None:
        raise BadInputError(f"{root}: {name} (or {name}.gz) is missing. Download it from MIMIC-CXR-JPG's page on PhysioNet.")
    return path


def _count_rows(path: Path) -> int:
    """How many rows there are about, for a progress bar; 0 for a table that :func:`_rows` will refuse."""
    try:
        with open_text(path) as file:
            return sum(1 for _ in bounded_lines(file, _MAX_LINE, _MAX_TABLE, "")) - 1
    except (BadInputError, UnicodeDecodeError, OSError, EOFError, zlib.error):
        return 0


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Stream (1-based data row, the cells of ``columns``); no cells where the row has another number of fields."""
    lines, row = None, 0
    try:
        with open_text(path) as file:
            refusal = f"{path}: far larger than the data set's own table. {_AGAIN}"
            lines = csv.reader(bounded_lines(file, _MAX_LINE, _MAX_TABLE, refusal), strict=True)
            header = [name.strip() for name in next(lines, [])]
            places = _places(path, header, columns)
            for values in lines:
                if values:
                    row += 1
                    yield row, tuple(values[i].strip() for i in places) if len(values) == len(header) else ()
    except csv.Error:
        where = lines.line_num if lines else 1
        raise BadInputError(f"{path}: not valid CSV near line {where} (an unclosed quote?). {_AGAIN}") from None
    except UnicodeDecodeError:
        raise BadInputError(f"{path}: not UTF-8 text after row {row}. {_AGAIN}") from None
    except (OSError, EOFError, zlib.error):
        raise BadInputError(f"{path}: the table is damaged or cannot be read after row {row}. {_AGAIN}") from None
    if not row:
        raise BadInputError(f"{path}: the table has no rows. {_AGAIN}")


def _places(path: Path, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Where each column stands; ``a|b`` is the first of the two that is there."""
    places = []
    for column in columns:
        name = next((name for name in column.split("|") if name in header), column)
        if header.count(name) != 1:
            shown = " or ".join(repr(part) for part in name.split("|"))
            found = f"column {shown} occurs {header.count(name)} times among {len(header)} columns (not shown)"
            raise BadInputError(f"{path}: {found}; it must occur once. Is the header row missing?")
        places.append(header.index(name))
    return places


def _whole_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Rows of a table of which every row must be usable."""
    for row, cells in _rows(path, columns):
        if not cells:
            raise BadInputError(f"{path}, row {row}: the number of fields differs from the header's. {_AGAIN}")
        for name, value in zip(columns, cells, strict=True):
            if name in _FORMS and not _FORMS[name].fullmatch(value):
                raise BadInputError(f"{path}, row {row}: the {name} is empty or not of MIMIC-CXR's form. {_AGAIN}")
        yield row, cells


class _Splits:
    """The data set's own splits; a table that puts a patient into two is refused."""

    def __init__(self, path: Path, wanted: frozenset[str]) -> None:
        self._name, self._wanted = path.name, wanted
        self._patient_of: dict[str, str] = {}
        self._split_of: dict[str, str] = {}
        leak, leaking = 0, set()
        for row, (dicom, subject, split) in _whole_rows(path, (_DICOM, _SUBJECT, "split")):
            if split not in SPLITS:
                raise BadInputError(f"{path}, row {row}: the split is not {', '.join(SPLITS)}. {_AGAIN}")
            if self._patient_of.setdefault(dicom, subject) != subject:
                raise BadInputError(f"{path}, row {row}: the image is that of an earlier row with another patient. {_AGAIN}")
            if self._split_of.setdefault(subject, split) != split:
                leak = leak or row
                leaking.add(subject)
        if leaking:
            found = f"{len(leaking)} patient(s) in two splits, first seen at row {leak}"
            raise BadInputError(f"{path}: {found}. A split must keep a patient's images together; use the data set's own file.")

    def holds(self, image: _Image) -> bool:
        patient = self._patient_of.get(image.dicom)
        if patient is None:
            raise _Unusable(f"the image has no row in {self._name}")
        if patient != image.subject:
            raise _Unusable(f"the patient differs from the one in {self._name}")
        return self._split_of[patient] in self._wanted


def _read_labels(path: Path) -> dict[str, tuple[str, ...]]:
    """The positive findings of each study; uncertain, negative and blank ones are no label."""
    labels: dict[str, tuple[str, ...]] = {}
    same: dict[tuple[str, ...], tuple[str, ...]] = {}  # few combinations, many studies
    for row, (study, *values) in _whole_rows(path, (_STUDY, *CHEXPERT_LABELS)):
        for name, value in zip(CHEXPERT_LABELS, values, strict=True):
            if value not in _POSITIVE and value not in _NOT_POSITIVE:
                raise BadInputError(f"{path}, row {row}: the label of {name} is not 1, 0, -1 or blank. {_AGAIN}")
        found = tuple(name for name, value in zip(CHEXPERT_LABELS, values, strict=True) if value in _POSITIVE)
        if labels.setdefault(study, same.setdefault(found, found)) != found:
            raise BadInputError(f"{path}, row {row}: the study is that of an earlier row with other labels. {_AGAIN}")
    return labels


class _Annotated:
    """Prompts from a table, by image."""

    def __init__(self, table: str) -> None:
        path = Path(table).expanduser()
        if not table or not path.is_file():
            raise BadInputError(f"{table or 'No annotations'}: no such file. data.prompt=annotated needs data.annotations=/path/to/a.csv.")
        self._prompts: dict[str, str] = {}
        for row, (image, text) in _whole_rows(path, ("|".join((_DICOM, *ANNOTATION_IMAGES)), ANNOTATED_PROMPT)):
            name, prompt = image.replace("\\", "/").rpartition("/")[2].removesuffix(".jpg"), annotated_prompt(text)
            if self._prompts.setdefault(name, prompt) != prompt:
                raise BadInputError(f"{path}, row {row}: the image is that of an earlier row with another prompt. Keep one of them.")

    def of(self, image: _Image) -> str:
        prompt = self._prompts.get(image.dicom)
        if not prompt:
            raise _Unusable("the image has no annotated prompt")
        return prompt
