"""CheXpert Plus in its own layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from data_miniatures.samples import Miniature, Sample
from data_miniatures.tables import write_dicts

from cxrguard.data.chexpert_plus import LABEL_FILES, TABLE

HEADER = [
    "path_to_image",
    "path_to_dcm",
    "frontal_lateral",
    "ap_pa",
    "deid_patient_id",
    "patient_report_date_order",
    "report",
    "section_narrative",
    "section_clinical_history",
    "section_findings",
    "section_impression",
    "age",
    "sex",
    "race",
    "split",
]
# its identifiers were replaced by false ones
PHRASES = (
    "2. NO CHANGE SINCE 10/12/2007.",
    "2. Findings were discussed with Dr. Miller by telephone at 10:45.",
    "2. No pneumothorax since March 3, 2009.",
    "",
)


def row(image: str, **changes: str) -> dict[str, str]:
    """A row of the table; patient and view come from the image's path."""
    kind = "Lateral" if "lateral" in image else "Frontal"
    values = {
        "path_to_image": image,
        "frontal_lateral": kind,
        "ap_pa": "AP" if kind == "Frontal" else "",
        "deid_patient_id": image.split("/")[1],
        "report": "NARRATIVE:\nsentinel\n\nIMPRESSION:\n1. CLEAR sentinel.",
        "section_findings": "Lungs, clear sentinel.",
        "section_impression": "1. CLEAR sentinel.\n2. NO CHANGE.",
        "split": "train",
    }
    return dict.fromkeys(HEADER, "") | values | changes


def write(root: Path, samples: Sequence[Sample]) -> Miniature:
    """The table names JPG, the images are PNG, as in the release; the first view of each study is a lateral one."""
    rows, labels = [], []
    for sample in samples:
        study = f"train/patient{sample.patient + 41_001}/study{sample.study + 1}"
        text = {"section_findings": sample.findings, "section_impression": "1. " + sample.impression.replace(" 2. ", "\n2. ")}
        rows += [row(f"{study}/view1_lateral.jpg", **text), row(f"{study}/view2_frontal.jpg", **text)]
        sample.save(root / "PNG" / study / "view2_frontal.png")
        (root / "PNG" / study / "view1_lateral.png").touch()
        labels.append(json.dumps({"path_to_image": rows[-1]["path_to_image"], "Lung Opacity": 1.0, "Edema": None}))
    write_dicts(root / TABLE, HEADER, rows)
    (root / LABEL_FILES["impression"]).parent.mkdir()
    (root / LABEL_FILES["impression"]).write_text("\n".join(labels))
    return Miniature(["data=chexpert_plus", f"data.root={root}"], [2 * number + 2 for number in range(len(samples))])
