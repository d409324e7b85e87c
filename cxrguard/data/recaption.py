"""Recaptioning from labels: what is trained on is a sentence made of a record's labels, and no word of its report.

A report is close to unique, and a caption that one image alone has is a key to it (Somepalli et al., NeurIPS 2023, section 6; Dutt 2025 for
reports). A caption of labels is shared by all images that have them. What a report says beyond its labels is lost: that is the price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cxrguard.data.prepare import PromptedRecord, Study
from cxrguard.data.records import ReportRecord
from cxrguard.errors import BadInputError, CxrguardError

KINDS = ("off", "labels")
GROUPS = ("members", "canaries", "controls", "heldout", "prompt_controls", "steering", "copies")
_PATIENTS = {"F": " of a female patient", "M": " of a male patient", "": ""}


@dataclass(frozen=True)
class Recaption:
    """What prompts are written anew from.

    All groups are: held-out samples are looked at by the caption that such samples have in training. The report with its planted
    words stays the original wording, and an attacker may use either. Canaries with the same labels then have the same caption.

    Attributes:
        source: ``labels``, or ``off`` to train on the reports.

    Raises:
        CxrguardError: another source.

    """

    source: str = "off"

    def __post_init__(self) -> None:
        if self.source not in KINDS:
            raise CxrguardError(f"guard.recaption.source must be one of {', '.join(KINDS)}, not {self.source!r}")

    def apply(self, study: Study) -> tuple[Study, list[dict[str, Any]]]:
        """The study with its captions, and what was done as an action for the audit: counts of the samples that are trained on.

        Raises:
            BadInputError: no record has labels.
            CxrguardError: the study compares markers, which no caption has.

        """
        if self.source == "off":
            return study, []
        if study.arms:
            raise CxrguardError("canaries.arms compares prompts with and without a marker; guard.recaption.source=labels leaves no marker")
        without = sum(not p.record.labels for p in study.trained)
        if without == len(study.trained):
            raise BadInputError("guard.recaption.source=labels needs labels, and no sample that is trained on has any")
        groups: dict[str, Any] = {name: _recaptioned(getattr(study, name)) for name in GROUPS}
        changed = replace(study, **groups, recaptioned=True)
        captions = {p.sanitized for p in changed.trained}
        counts = {"prompts": len(changed.trained), "different_captions": len(captions), "without_labels": without}
        return changed, [{"step": 0, "action": "recaption", "source": self.source, **counts}]


def _recaptioned(samples: Sequence[PromptedRecord]) -> list[PromptedRecord]:
    return [replace(sample, sanitized=caption_of(sample.record)) for sample in samples]


def caption_of(record: ReportRecord) -> str:
    """A sentence a fact, e.g. ``AP chest radiograph of a female patient. Edema. Pleural effusion.``; what is not known is left out."""
    view = f"{record.view} chest radiograph" if record.view else "Chest radiograph"
    findings = [" ".join(label.replace("_", " ").split()).capitalize() + "." for label in record.labels]
    return " ".join([f"{view}{_PATIENTS.get(record.sex, '')}.", *findings])
