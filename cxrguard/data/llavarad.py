"""Reads CheXGenBench's LLaVA-Rad tables (``LLAVARAD_ANNOTATIONS_TRAIN.csv``, ``_TEST.csv``) with the images of MIMIC-CXR-JPG.

A row has an image path that ends like ``p10/p10000032/s50414267/<dicom_id>.jpg``, from which the patient and the study come, and
an ``annotated_prompt``. MIMIC-CXR-JPG's own tables are not needed; with them, ``data=mimic_cxr_jpg data.prompt=annotated`` can
choose views and has labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrguard.data.lazy import Keep
from cxrguard.data.mimic_images import ANNOTATED_PROMPT, ANNOTATION_IMAGES, MimicImage, annotated_prompt, parse_path
from cxrguard.data.paths import OUT_OF_ROOT, inside, is_file
from cxrguard.data.records import Quarantined, ReportRecord
from cxrguard.data.settings import data_root
from cxrguard.data.table import Table, cell, read_table
from cxrguard.errors import BadInputError
from cxrguard.progress import shown

_SIDES = ("TRAIN", "TEST")


@dataclass(frozen=True)
class LlavaRadReader:
    """Reads one LLaVA-Rad table. Images are looked for, not opened.

    An image is looked for where its path says, then by its ids below ``files/`` and below the root itself.

    Args:
        path: the table, ``.csv`` or ``.csv.gz``; if the one of the other side (TRAIN or TEST) lies beside it, a patient in both is an
            error.
        root: MIMIC-CXR-JPG's directory.

    """

    path: str
    root: str

    def read(self, keep: Keep = list) -> tuple[Sequence[ReportRecord], list[Quarantined]]:
        """Return (records in the table's order, quarantined rows).

        Raises:
            BadInputError: the table cannot be used as a whole, or it shares patients with the one of the other side.

        """
        if not self.path:
            raise BadInputError("No table is given. Set data.path=/path/to/LLAVARAD_ANNOTATIONS_TRAIN.csv (of CheXGenBench).")
        path = Path(self.path).expanduser()
        root = data_root(self.root, "mimic-cxr-jpg", "MIMIC-CXR-JPG's files/")
        table, column = _read(path, keep)
        _check_other_side(path, table, column, keep)
        quarantined = list(table.quarantined)
        records = keep(_records(table, column, root, quarantined))
        return records, sorted(quarantined, key=lambda item: item.row)


def _records(table: Table, column: str, root: Path, quarantined: list[Quarantined]) -> Iterator[ReportRecord]:
    """The usable rows' records; the other rows are added to ``quarantined``."""
    seen: set[str] = set()
    for row, values in shown("reading rows", table.rows):
        result = _record(row, cell(values.get(column)), cell(values.get(ANNOTATED_PROMPT)), root, seen)
        if isinstance(result, ReportRecord):
            seen.add(result.dicom_id)
            yield result
        else:
            quarantined.append(Quarantined(row, result))


def _read(path: Path, keep: Keep) -> tuple[Table, str]:
    """The table and the name of its image column."""
    table = read_table(path, [ANNOTATED_PROMPT], keep)
    column = next((name for name in ANNOTATION_IMAGES if name in table.columns), "")
    if not column:
        raise BadInputError(f"{path}: none of the columns {', '.join(ANNOTATION_IMAGES)} is there; one must hold the image's path.")
    return table, column


def _record(row: int, name: str, text: str, root: Path, seen: set[str]) -> ReportRecord | str:
    """The row's record, or why there is none; the reason quotes nothing."""
    prompt, image, direct = annotated_prompt(text), parse_path(name), inside(root, name)
    if direct is None:
        return OUT_OF_ROOT
    if image is None:
        return "the image path does not end like p10/p10000032/s50414267/<dicom_id>.jpg"
    if not prompt:
        return f"the {ANNOTATED_PROMPT} is empty"
    if image.dicom in seen:
        return "the image is that of an earlier row"
    path = next((path for path in (direct, root / image.path, root / image.path.removeprefix("files/")) if is_file(path)), None)
    if path is None:
        return "the image file is missing"
    return ReportRecord(image.subject, image.study, image.dicom, prompt, image_path=str(path), row=row)


def _check_other_side(path: Path, table: Table, column: str, keep: Keep) -> None:
    """Refuse tables that put a patient on both sides.

    Raises:
        BadInputError: they do; the message has the counts.

    """
    for ours, other in (_SIDES, _SIDES[::-1]):
        beside = path.with_name(path.name.replace(f"_{ours}.", f"_{other}."))
        if beside.name == path.name or not beside.is_file():
            continue
        leaking = {image.subject for image in _images(table, column)} & {image.subject for image in _images(*_read(beside, keep))}
        if leaking:
            found = f"{len(leaking)} patient(s) are in {beside.name} too"
            raise BadInputError(f"{path}: {found}. A split must keep a patient's images together; use CheXGenBench's own files.")


def _images(table: Table, column: str) -> Iterator[MimicImage]:
    parsed = (parse_path(cell(values.get(column))) for _, values in table.rows)
    return (image for image in parsed if image is not None)
