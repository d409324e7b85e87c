"""The one record that every reader makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from cxrguard.data.lazy import Keep


@dataclass(frozen=True, slots=True)
class ReportRecord:
    """One image with its report prompt.

    Attributes:
        subject_id: the patient; splits keep all records of one patient together.
        study_id: the study the image belongs to.
        dicom_id: the image, unique in a data set.
        prompt: report text, protected: never logged.
        labels: findings, field-standard names, may be empty.
        view: ``"PA"``, ``"AP"`` or ``""``.
        image_path: where the image lies; empty if ``pixels`` are given.
        pixels: uint8 ``[H, W]`` in memory (phantoms), else None.
        row: 1-based data row in the reader's table, for messages; 0 if there is none.
        sex: ``"F"``, ``"M"`` or ``""``.

    """

    subject_id: str
    study_id: str
    dicom_id: str
    prompt: str = field(repr=False)
    labels: tuple[str, ...] = ()
    view: str = ""
    image_path: str = field(default="", repr=False)
    pixels: np.ndarray | None = field(default=None, repr=False, compare=False)
    row: int = 0
    sex: str = ""

    def with_prompt(self, prompt: str) -> ReportRecord:
        """The same image with another prompt."""
        return replace(self, prompt=prompt)


@dataclass(frozen=True)
class Quarantined:
    """A sample that cannot be used: its row and why, without any text of it."""

    row: int
    reason: str


class Reader(Protocol):
    """Reads one data set's own layout.

    ``read`` hands its records one by one to ``keep``, so that a large data set need not be in memory. It raises
    :class:`~cxrguard.errors.BadInputError` if the data set as a whole cannot be used, and returns the usable records beside
    the quarantined rows otherwise.
    """

    def read(self, keep: Keep = list) -> tuple[Sequence[ReportRecord], list[Quarantined]]:
        """Return (records, quarantined), records in the table's order."""
        ...
