"""NIH ChestX-ray14 in its own layout. It has no reports: the labels of each sample are others."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from data_miniatures.samples import SAME_REPORT, Miniature, Sample
from data_miniatures.tables import write_rows

from cxrguard.data.nih_cxr14 import TABLE

HEADER = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position"]
HEADER += ["OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"]
LABELS = ["Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax", "Consolidation"]
LABELS += ["Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"]


def write(root: Path, samples: Sequence[Sample]) -> Miniature:
    """Films of grown men, so that the two with one report differ in nothing; in parts, as NIH gives them out."""
    findings = ["|".join(labels) for labels in itertools.combinations(LABELS, 3)]
    findings[SAME_REPORT[1]] = findings[SAME_REPORT[0]]
    rows: list[list[object]] = []
    for sample in samples:
        name = f"{sample.patient + 20_011:08d}_{sample.study:03d}.png"
        sample.save(root / f"images_{1 + 12 * sample.number // len(samples):03d}" / "images" / name)
        rows.append([name, findings[sample.number], sample.study, sample.patient + 20_011, 30 + sample.patient % 50, "M", "PA"])
    write_rows(root / TABLE, [HEADER, *([*cells, 2500, 2048, 0.168, 0.168] for cells in rows)])
    return Miniature(["data=nih_cxr14", f"data.root={root}"], list(range(1, len(samples) + 1)))
