"""Limits how often an epoch shows what is there several times: duplicate removal and repeat caps.

Webster et al. (2023, "On the de-duplication of LAION-2B") and Carlini et al. (USENIX Security 2023, section 7.1) remove duplicates before
training, since what is there many times is memorized first. What is left out still counts as a training image in every figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cxrguard.data.duplicates import Duplicates, find_duplicates
from cxrguard.data.grouping import Groups
from cxrguard.data.prepare import Study
from cxrguard.errors import CxrguardError

KINDS = ("off", "exact", "near")


@dataclass(frozen=True)
class RepeatLimit:
    """What counts as the same, and how often an epoch shows it.

    Attributes:
        images: ``exact``, ``near`` (see :mod:`cxrguard.data.near_images`) or ``off``.
        prompts: likewise, of prompts as they are trained on (see :mod:`cxrguard.data.near_prompts`).
        most: showings an epoch of all samples that are alike, together; 1 removes duplicates.

    Raises:
        CxrguardError: an unknown kind, or ``most`` below 1.

    """

    images: str = "off"
    prompts: str = "off"
    most: int = 1

    def __post_init__(self) -> None:
        for name, kind in (("images", self.images), ("prompts", self.prompts)):
            if kind not in KINDS:
                raise CxrguardError(f"guard.repeats.{name} must be one of {', '.join(KINDS)}, not {kind!r}")
        if self.most < 1:
            raise CxrguardError(f"guard.repeats.most must be 1 at least, not {self.most}")

    @property
    def acts(self) -> bool:
        """Whether it does anything."""
        return (self.images, self.prompts) != ("off", "off")

    def showings(self, study: Study) -> list[int]:
        """Showings an epoch of each of ``study.trained``: those first in the list are kept, 0 leaves a sample out."""
        if not self.acts:
            return study.showings
        found = _find(study)
        left = list(study.showings)
        kinds = [(kind, what) for kind, what in ((self.images, "images"), (self.prompts, "prompts")) if kind != "off"]
        for kind, what in kinds:
            groups: Groups = getattr(found, f"{kind}_{what}")
            for rows in [*groups.rows, *_alone(groups, len(left))]:
                left = _capped(left, rows, self.most)
        return left


def _find(study: Study) -> Duplicates:
    samples = study.trained
    subjects = [s.record.subject_id for s in samples]
    return find_duplicates([s.pixels for s in samples], [s.sanitized for s in samples], subjects, ["train"] * len(samples))


def _alone(groups: Groups, n: int) -> list[list[int]]:
    """Samples like no other; one that is repeated is still like itself."""
    together = {row for rows in groups.rows for row in rows}
    return [[row] for row in range(n) if row not in together]


def _capped(showings: Sequence[int], rows: Sequence[int], most: int) -> list[int]:
    capped, budget = list(showings), most
    for row in rows:
        capped[row] = min(capped[row], budget)
        budget -= capped[row]
    return capped
