"""The report that matches a phantom: MIMIC-CXR style, ``___`` where MIMIC-CXR has its de-identification marker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIZES = ("small", "moderate", "large")
ZONES = ("upper", "mid", "lower")
NAMES = ("effusion", "nodule", "cardiomegaly", "consolidation", "pneumothorax")
_LABELS = {
    "effusion": "Pleural Effusion",
    "nodule": "Lung Lesion",
    "cardiomegaly": "Cardiomegaly",
    "consolidation": "Consolidation",
    "pneumothorax": "Pneumothorax",
}


@dataclass(frozen=True)
class Finding:
    """One finding: ``name`` of :data:`NAMES`, the patient's ``side`` (right, left, both or ""), ``size`` and ``zone``."""

    name: str
    side: str = ""
    size: str = ""
    zone: str = ""

    @property
    def label(self) -> str:
        """The CheXpert-style label."""
        return _LABELS[self.name]

    def phrase(self) -> str:
        """The finding in words, e.g. ``small left pleural effusion``."""
        side = {"both": "bilateral", "": ""}.get(self.side, self.side)
        where = f"{side} {self.zone} zone" if self.zone else side
        words = {
            "effusion": f"{self.size} {where} pleural effusion{'s' if self.side == 'both' else ''}",
            "nodule": f"{self.size} {where} nodule",
            "cardiomegaly": "enlarged cardiac silhouette",
            "consolidation": f"{where} consolidation",
            "pneumothorax": f"{self.size} {where} pneumothorax",
        }
        return " ".join(words[self.name].split())


def draw_findings(rng: np.random.Generator) -> tuple[Finding, ...]:
    """Draw up to two findings; about a third of the studies have none."""
    count = int(rng.choice(3, p=[0.35, 0.4, 0.25]))
    names = rng.choice(NAMES, size=count, replace=False)
    return tuple(_draw_finding(str(name), rng) for name in names)


def _draw_finding(name: str, rng: np.random.Generator) -> Finding:
    size, zone = str(rng.choice(SIZES)), str(rng.choice(ZONES))
    side = str(rng.choice(["right", "left"]))
    if name == "cardiomegaly":
        return Finding(name)
    if name == "nodule":
        return Finding(name, side, size, zone)
    if name == "consolidation":
        return Finding(name, str(rng.choice(["right", "left", "both"])), zone=zone)
    if name == "effusion":
        return Finding(name, str(rng.choice(["right", "left", "both"])), size)
    return Finding(name, side, size)


def write_report(
    findings: tuple[Finding, ...],
    view: str,
    sex: str,
    age: int,
    has_prior: bool,
    deid_markers: bool,
    rng: np.random.Generator,
) -> str:
    """Write FINDINGS and IMPRESSION for ``findings``; short, so that a 77-token encoder sees all of it."""
    marker = "___" if deid_markers else ""
    sentences = [f.phrase().capitalize() + "." for f in findings]
    absent = [name for name in ("effusion", "pneumothorax") if name not in {f.name for f in findings}]
    if absent:
        sentences.append("No " + " or ".join("pleural effusion" if n == "effusion" else n for n in absent) + ".")
    lead = _lead(view, sex, age, has_prior, marker, rng)
    impression = "; ".join(f.phrase() for f in findings).capitalize() or "No acute cardiopulmonary process"
    return f"FINDINGS: {lead} {' '.join(sentences)} IMPRESSION: {impression}."


def _lead(view: str, sex: str, age: int, has_prior: bool, marker: str, rng: np.random.Generator) -> str:
    woman = "woman" if sex == "F" else "man"
    who = f"___ year old {woman}." if marker else f"{age} year old {woman}."
    # Drawn with and without markers alike: the patient's later findings must not depend on them.
    prior_first = has_prior and rng.random() < 0.5
    if has_prior and marker:
        return (
            f"{view} view. In comparison with the study of {marker}, {who}" if prior_first else f"{view} view. {who} Compared to {marker}."
        )
    return f"{view} view. {who}"
