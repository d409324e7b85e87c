"""Open-I in both of its layouts; all numbers are made up."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from data_miniatures.samples import Miniature, Sample
from data_miniatures.tables import write_rows

from cxrguard.data.open_i import ARCHIVE, FOLDER, PNG, PROJECTIONS, REPORTS

PHRASES = (
    "No XXXX of a pleural effusion.",
    "There is no change since XXXX.",
    "Heart and pulmonary XXXX are normal.",
    "",
)
_FIRST = 3101
_FRONTAL, _LATERAL = "IM-2417-1001", "IM-2417-2001"


def xml(uid: int, images: Sequence[str], findings: str, impression: str, terms: Sequence[str] = ()) -> str:
    """One report of the library."""
    sections = {"COMPARISON": "None.", "INDICATION": "Sentinel cough", "FINDINGS": findings, "IMPRESSION": impression}
    texts = "\n".join(f'<AbstractText Label="{name}">{escape(text)}</AbstractText>' for name, text in sections.items())
    parents = "\n".join(f'<parentImage id="CXR{uid}_{uid}_{name}"><figureId>F1</figureId></parentImage>' for name in images)
    majors = "".join(f"<major>{term}</major>" for term in terms)
    article = f"<MedlineCitation><Article><Abstract>{texts}</Abstract></Article></MedlineCitation>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n<eCitation><uId id="CXR{uid}"/>{article}<MeSH>{majors}</MeSH>{parents}</eCitation>'


def pack(path: Path, files: dict[str, bytes]) -> Path:
    """Write a ``.tgz``."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_projections(root: Path, rows: Sequence[str]) -> None:
    """Kaggle's list of images."""
    (root / PROJECTIONS).write_text("\n".join(["uid,filename,projection", *rows]) + "\n", encoding="utf-8-sig")


def _uid(sample: Sample) -> int:
    return _FIRST + sample.number


def _write_projections_of(root: Path, samples: Sequence[Sample]) -> None:
    views = ((_LATERAL, "Lateral"), (_FRONTAL, "Frontal"))
    write_projections(root, [f"{_uid(s)},{_uid(s)}_{name}.dcm.png,{view}" for s in samples for name, view in views])


def write_xml(root: Path, samples: Sequence[Sample]) -> Miniature:
    """The library's archive as it is, with the projections that tell frontal images from lateral ones."""
    (root / PNG).mkdir(parents=True)
    files = {}
    for sample in samples:
        uid = _uid(sample)
        text = xml(uid, (_LATERAL, _FRONTAL), sample.findings, sample.impression, ["Opacity/lung/mild"])
        files[f"{FOLDER}/{uid}.xml"] = text.encode()
        sample.save(root / PNG / f"CXR{uid}_{uid}_{_FRONTAL}.png")
        (root / PNG / f"CXR{uid}_{uid}_{_LATERAL}.png").touch()
    pack(root / ARCHIVE, files)
    _write_projections_of(root, samples)
    return Miniature(["data=open_i", f"data.root={root}"], list(range(1, len(samples) + 1)))


def write_kaggle(root: Path, samples: Sequence[Sample]) -> Miniature:
    """The Kaggle copy."""
    images = root / "images" / "images_normalized"
    images.mkdir(parents=True)
    header = ["uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression"]
    rows = []
    for sample in samples:
        rows.append([_uid(sample), "Opacity", "Opacity;Lung", "Xray Chest PA and Lateral", "Cough", "", sample.findings, sample.impression])
        sample.save(images / f"{_uid(sample)}_{_FRONTAL}.dcm.png")
        (images / f"{_uid(sample)}_{_LATERAL}.dcm.png").touch()
    write_rows(root / REPORTS, [header, *rows])
    _write_projections_of(root, samples)
    return Miniature(["data=open_i", f"data.root={root}"], [2 * number + 2 for number in range(len(samples))])
