"""What every miniature holds, whatever its layout: patients whose images and reports are pairwise different, but for the planted ones.

Two images are the same film of two patients, two patients have one report, one image file is cut off and one is not there.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 64
N_PATIENTS = 260
SAME_IMAGE, SAME_REPORT = (4, 33), (8, 61)  # samples of different patients
TRUNCATED, MISSING = 17, 42
_DEGREES = ("Faint", "Mild", "Moderate", "Dense", "Patchy")
_FINDINGS = ("opacity", "consolidation", "atelectasis", "scarring", "haziness", "infiltrate", "thickening", "edema", "nodularity")
_PLACES = tuple(f"{side} {part}" for side in ("right", "left") for part in ("upper zone", "mid zone", "lower zone", "lung base"))


def noise(seed: int, side: int = SIDE) -> NDArray[np.uint8]:
    """A picture with structure at all scales, another for each seed."""
    rng, picture = np.random.default_rng(seed), np.zeros((side, side))
    for scale in (4, 8, 16, 32):
        picture += np.kron(rng.normal(size=(scale, scale)), np.ones((side // scale, side // scale))) / scale**0.5
    return np.rint(255 * (picture - picture.min()) / np.ptp(picture)).astype(np.uint8)


@dataclass(frozen=True)
class Sample:
    """One frontal film with its report; ``study`` counts a patient's. Every patient has one film, every fourth has two."""

    number: int
    patient: int
    study: int
    pixels: NDArray[np.uint8]
    findings: str
    impression: str

    def image(self, kind: str = "png", deep: bool = False) -> bytes:
        """The file, cut off if it is that of the sample with the damaged one; ``deep``: with 16 bits."""
        file = io.BytesIO()
        Image.fromarray(self.pixels.astype(np.uint16) * 257 if deep else self.pixels).save(file, kind, quality=95)
        content = file.getvalue()
        return content[: len(content) // 2] if self.number == TRUNCATED else content

    def save(self, path: Path, kind: str = "png", deep: bool = False) -> None:
        """Write the file, unless it is the one that is missing; its directory is there in any case."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.number != MISSING:
            path.write_bytes(self.image(kind, deep))


@dataclass(frozen=True)
class Miniature:
    """A written data set: what a user says on the command line, and the row that a run knows each sample by."""

    overrides: list[str]
    rows: list[int]


def draw_samples(phrases: Sequence[str], n_patients: int = N_PATIENTS) -> list[Sample]:
    """Samples whose impressions end in ``phrases`` in turn: the data set's own markers."""
    visits = [(patient, study) for patient in range(n_patients) for study in range(2 if patient % 4 == 0 else 1)]
    found = itertools.product(_FINDINGS, _PLACES, _DEGREES)
    samples = []
    for number, ((patient, study), (finding, place, degree)) in enumerate(zip(visits, found, strict=False)):
        findings = f"{degree} {finding} in the {place}. The heart is of normal size."
        impression = " ".join([f"{degree} {finding} in the {place}.", *phrases[number % len(phrases) :][:1]])
        samples.append(Sample(number, patient, study, noise(number), findings, impression))
    assert len(samples) == len(visits), "more visits than different reports"
    return _with_duplicates(samples)


def _with_duplicates(samples: list[Sample]) -> list[Sample]:
    first, second = SAME_IMAGE
    samples[second] = replace(samples[second], pixels=samples[first].pixels)
    first, second = SAME_REPORT
    samples[second] = replace(samples[second], findings=samples[first].findings, impression=samples[first].impression)
    return samples
