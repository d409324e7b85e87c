"""MIMIC-CXR-JPG 2.1.0 and CheXGenBench's LLaVA-Rad table in their own layouts; all ids are made up."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_miniatures.samples import Miniature, Sample
from data_miniatures.tables import write_rows

from cxrguard.data.chexpert_labels import CHEXPERT_LABELS
from cxrguard.data.mimic_cxr_jpg import LABEL_TABLES, METADATA, SPLIT
from cxrguard.data.report_sections import ARCHIVE

METADATA_HEADER = ["dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns"]
LLAVARAD_TRAIN = "LLAVARAD_ANNOTATIONS_TRAIN.csv"
PHRASES = (
    "In comparison with the study of ___, there is no change.",
    "No pneumothorax since ___.",
    "Discussed with Dr. ___ by telephone at ___.",
    "",
)
_REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)
 
 INDICATION:  ___ year old woman with a cough that she has had since the spring.
 
 COMPARISON:  Chest radiograph from ___.
 
 FINDINGS: 
 
 {findings}
 
 IMPRESSION: 
 
 {impression}
"""  # noqa: W291, W293 - as the real ones: a section ends with a line of one space


def dicom(number: int) -> str:
    """An image id."""
    return "-".join(f"{number + k:08x}" for k in range(0xA0, 0xA5))


@dataclass
class Film:
    """One row of the metadata; ``split`` and so on are of the other tables."""

    number: int
    subject: str
    study: str
    view: str = "PA"
    split: str = "train"
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return f"files/p{self.subject[:2]}/p{self.subject}"


def write_tables(root: Path, films: Sequence[Film], packed: bool = False) -> None:
    rows = [[dicom(f.number), f.subject, f.study, "CHEST (PA AND LAT)", f.view, 2544, 3056] for f in films]
    write_rows(root / METADATA, [METADATA_HEADER, *rows], packed)
    splits = [[dicom(f.number), f.study, f.subject, f.split] for f in films]
    write_rows(root / SPLIT, [["dicom_id", "study_id", "subject_id", "split"], *splits], packed)
    studies = {f.study: f for f in reversed(films)}
    labels = [[f.subject, f.study, *(f.labels.get(name, "") for name in CHEXPERT_LABELS)] for f in studies.values()]
    for name in LABEL_TABLES.values():
        write_rows(root / name, [["subject_id", "study_id", *CHEXPERT_LABELS], *labels], packed)


def zip_reports(root: Path, path: Path) -> Path:
    """Move the reports below ``root`` into the archive ``path``."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("s*.txt")):
            archive.write(file, file.relative_to(root).as_posix())
            file.unlink()
    return path


def _film(sample: Sample, view: str = "", number: int = 0) -> Film:
    labels = {"Lung Opacity": "1.0", "Pneumonia": "-1.0"} if sample.number % 2 else {"No Finding": "1.0"}
    view = view or ("PA", "AP")[sample.number % 2]
    return Film(number or sample.number, f"1{sample.patient + 4_310_277:07d}", f"5{sample.number + 1_630_451:07d}", view, labels=labels)


def write_jpg(root: Path, samples: Sequence[Sample]) -> Miniature:
    """Gzipped tables, and the reports in a zip of another directory; each study has a lateral film too, which is not asked for."""
    jpg, reports = root / "mimic-cxr-jpg", root / "mimic-cxr"
    reports.mkdir(parents=True)
    films = []
    for sample in samples:
        film, lateral = _film(sample), _film(sample, "LATERAL", sample.number + 10_000)
        films += [lateral, film]
        folder = jpg / film.folder / f"s{film.study}"
        sample.save(folder / f"{dicom(film.number)}.jpg", "jpeg")
        (folder / f"{dicom(lateral.number)}.jpg").touch()
        folder.with_suffix(".txt").write_text(_REPORT.format(findings=sample.findings, impression=sample.impression))
    write_tables(jpg, films, packed=True)
    zip_reports(jpg, reports / ARCHIVE)
    return Miniature(
        ["data=mimic_cxr_jpg", f"data.root={jpg}", f"data.reports={reports}"], [2 * number + 2 for number in range(len(samples))]
    )


def write_llavarad(root: Path, samples: Sequence[Sample]) -> Miniature:
    """The table, and the images without any other of MIMIC-CXR-JPG's files."""
    rows = []
    for sample in samples:
        film = _film(sample)
        name = f"{film.folder}/s{film.study}/{dicom(film.number)}.jpg"
        sample.save(root / "mimic-cxr-jpg" / name, "jpeg")
        rows.append([f"mimic/{name.removeprefix('files/')}", "", sample.impression])
    write_rows(root / LLAVARAD_TRAIN, [["path", "conversations", "annotated_prompt"], *rows])
    return Miniature(
        ["data=llavarad", f"data.path={root / LLAVARAD_TRAIN}", f"data.root={root / 'mimic-cxr-jpg'}"], list(range(1, len(samples) + 1))
    )
