"""PadChest in its own layout: Spanish reports, images of 16 bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_miniatures.samples import Miniature, Sample
from data_miniatures.tables import write_dicts

from cxrguard.data.padchest import TABLE

HEADER = [
    "",
    "ImageID",
    "ImageDir",
    "StudyDate_DICOM",
    "StudyID",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "ViewPosition_DICOM",
    "Projection",
    "MethodProjection",
    "Pediatric",
    "PhotometricInterpretation_DICOM",
    "ReportID",
    "Report",
    "MethodLabel",
    "Labels",
    "Localizations",
]
REPORT = "sin hallazgos, señal centinela ."
LABELS = "['cardiomegaly', ' pleural effusion', '', 'cardiomegaly']"
_SPANISH = {
    "Faint": "tenue",
    "Mild": "leve",
    "Moderate": "moderado",
    "Dense": "denso",
    "Patchy": "parcheado",
    "in the": "en",
    "right": "derecho",
    "left": "izquierdo",
    "upper zone": "campo superior",
    "mid zone": "campo medio",
    "lower zone": "campo inferior",
    "lung base": "base pulmonar",
}


def row(image: str, **changes: str) -> dict[str, str]:
    """A row of the table."""
    values = {
        "ImageID": image,
        "ImageDir": "7",
        "StudyID": f"study-{image}",
        "PatientID": f"patient-{image}",
        "Projection": "PA",
        "PhotometricInterpretation_DICOM": "MONOCHROME2",
        "Report": REPORT,
        "Labels": LABELS,
    }
    return dict.fromkeys(HEADER, "") | values | changes


def write(root: Path, samples: Sequence[Sample]) -> Miniature:
    """Images in the numbered folders; one row of each sample is a lateral film, which is not asked for."""
    rows = []
    for sample in samples:
        text = sample.impression
        for english, spanish in _SPANISH.items():
            text = text.replace(english, spanish)
        names = {"ImageDir": str(sample.number % 3), "StudyID": f"s{sample.number + 71_003}", "PatientID": f"p{sample.patient + 52_007}"}
        frontal, lateral = (row(f"{sample.number + 216_840_111}_{k}.png", **names, Report=f"{text} señal .") for k in "ab")
        rows += [lateral | {"Projection": "L"}, frontal]
        sample.save(root / names["ImageDir"] / frontal["ImageID"], deep=True)
    write_dicts(root / TABLE, HEADER, rows)
    return Miniature(["data=padchest", f"data.root={root}", "data.window=full"], [2 * number + 2 for number in range(len(samples))])
