"""The CheXpert Plus reader on a made data set."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from data_miniatures.chexpert_plus import HEADER, row
from data_miniatures.tables import write_dicts
from PIL import Image

from cxrguard.data.chexpert_labels import CHEXPERT_LABELS
from cxrguard.data.chexpert_plus import TABLE, ChexpertPlusReader, read_labels
from cxrguard.errors import BadInputError

CONF = Path(__file__).parents[3] / "conf" / "data"
FRONTAL, LATERAL, OTHER = (
    f"train/patient{p}/study{s}/view{v}.jpg" for p, s, v in ((11, 1, "1_frontal"), (11, 1, "2_lateral"), (12, 3, "1_frontal"))
)


GOOD = [row(FRONTAL), row(LATERAL), row(OTHER, ap_pa="PA")]


def make(root: Path, rows: list[dict[str, str]] = GOOD, base: str = "PNG", ending: str = "png", encoding: str = "utf-8-sig") -> Path:
    for name in (FRONTAL, LATERAL, OTHER):
        path = (root / base / name).with_suffix(f".{ending}")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    write_dicts(root / TABLE, HEADER, rows, encoding)
    return root


def refused(call: Callable[[], object], *parts: str) -> None:
    with pytest.raises(BadInputError) as caught:
        call()
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert "sentinel" not in str(caught.value)


@pytest.mark.parametrize(
    ("base", "ending"), [("PNG", "png"), ("PNG/PNG", "png"), (".", "jpg"), ("CheXpert-v1.0", "jpg"), ("CheXpert-v1.0-small", "jpg")]
)
def test_records_wherever_the_images_were_unpacked(tmp_path: Path, base: str, ending: str) -> None:
    records, quarantined = ChexpertPlusReader(str(make(tmp_path, base=base, ending=ending))).read()
    assert quarantined == [] and [r.row for r in records] == [1, 3]
    first = records[0]
    assert (first.subject_id, first.study_id, first.view) == ("patient11", "patient11/study1", "AP")
    assert first.dicom_id == FRONTAL.removesuffix(".jpg") and first.prompt == "1. CLEAR sentinel.\n2. NO CHANGE."
    assert records[1].view == "PA" and all(Path(r.image_path).suffix == f".{ending}" and Path(r.image_path).is_file() for r in records)
    assert "sentinel" not in repr(records)


@pytest.mark.parametrize(
    ("views", "rows"), [(None, [1, 2, 3]), (["lateral"], [2]), (["PA"], [3]), (["AP", "lateral"], [1, 2]), ("frontal", [1, 3])]
)
def test_views(tmp_path: Path, views: list[str] | None, rows: list[int]) -> None:
    records, quarantined = ChexpertPlusReader(str(make(tmp_path)), views=views).read()
    assert [r.row for r in records] == rows and quarantined == []
    assert all(r.view == "" for r in records if r.row == 2)


def test_prompts(tmp_path: Path) -> None:
    rows = [row(FRONTAL, section_findings=""), row(LATERAL), row(OTHER, section_impression="nan")]
    make(tmp_path, rows)
    prompts = {p: [r.prompt for r in ChexpertPlusReader(str(tmp_path), prompt=p).read()[0]] for p in ("impression", "findings", "both")}
    impression, findings = GOOD[0]["section_impression"], GOOD[0]["section_findings"]
    assert prompts == {"impression": [impression, findings], "findings": [impression, findings], "both": [impression, findings]}
    assert ChexpertPlusReader(str(tmp_path), prompt="both", views=["lateral"]).read()[0][0].prompt == f"{findings}\n{impression}"
    make(tmp_path, rows[:1])
    refused(ChexpertPlusReader(str(tmp_path), views=["lateral"]).read, TABLE, "data.views")


BAD = {
    "no patient": (row(OTHER, deid_patient_id=""), "patient id"),
    "NaN patient": (row(OTHER, deid_patient_id="nan"), "patient id"),
    "no text": (row(OTHER, section_findings=" ", section_impression="NaN"), "neither findings nor impression"),
    "twice": (row(FRONTAL), "earlier row"),
    "twice, other ending": (row(FRONTAL.replace("jpg", "png")), "earlier row"),
    "missing": (row(OTHER.replace("12", "99")), "missing"),
    "a folder": (row(FRONTAL.removesuffix("/view1_frontal.jpg")), "missing"),
    "no view": (row(OTHER, frontal_lateral="nan"), "frontal_lateral"),
    "other view": (row(OTHER, frontal_lateral="Oblique"), "frontal_lateral"),
    "no path": (row(OTHER, path_to_image=""), "inside the data set"),
    "climbs out": (row(OTHER, path_to_image="train/../../" + OTHER), "leads out of data.root"),
    "absolute": (row(OTHER, path_to_image="/" + OTHER), "leads out of data.root"),
    "null byte": (row(OTHER, path_to_image=OTHER + "\0.jpg"), "inside the data set"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_quarantined_by_number_and_without_text(tmp_path: Path, name: str) -> None:
    bad, reason = BAD[name]
    records, quarantined = ChexpertPlusReader(str(make(tmp_path, [GOOD[0], bad, GOOD[2]]))).read()
    assert [r.row for r in records] == [1, 3]
    assert [q.row for q in quarantined] == [2] and reason in quarantined[0].reason
    assert not re.search(r"sentinel|patient\d|view\d|train", quarantined[0].reason)


def test_a_short_row_is_quarantined(tmp_path: Path) -> None:
    make(tmp_path)
    with (tmp_path / TABLE).open("a") as file:
        file.write("train/patient13,sentinel\n")
    _, quarantined = ChexpertPlusReader(str(tmp_path)).read()
    assert [(q.row, "number of fields" in q.reason) for q in quarantined] == [(4, True)]


def test_labels(tmp_path: Path) -> None:
    root = make(tmp_path)
    assert all(r.labels == () for r in ChexpertPlusReader(str(root)).read()[0])
    (root / "chexbert_labels").mkdir()
    values = [
        {"Edema": 1.0, "Fracture": float("nan"), "Pneumonia": -1.0, "Support Devices": 1, "Cardiomegaly": 0.0, "Consolidation": None},
        {},
    ]
    lines = [json.dumps({"path_to_image": name} | value) for name, value in zip((FRONTAL, OTHER), values, strict=True)]
    assert "NaN" in lines[0]
    (root / "chexbert_labels" / "impression_fixed.json").write_text("\n".join([*lines, ""]), encoding="utf-8-sig")
    assert [r.labels for r in ChexpertPlusReader(str(root)).read()[0]] == [("Edema", "Support Devices"), ()]
    assert all(r.labels == () for r in ChexpertPlusReader(str(root), prompt="findings").read()[0])  # that file is not there
    assert len(CHEXPERT_LABELS) == 14


@pytest.mark.parametrize("line", ["{", "[1]", '"sentinel"', '{"path": "sentinel"}', "1", "[" * 100_000])
def test_bad_labels_name_the_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "report_fixed.json"
    path.write_text(json.dumps({"path_to_image": FRONTAL}) + "\n" + line)
    refused(lambda: read_labels(path), str(path), "line 2")
    path.write_bytes(b'{"path_to_image": "\xff"}')
    refused(lambda: read_labels(path), str(path), "UTF-8")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    root = tmp_path / "d"
    refused(ChexpertPlusReader("").read, "data.root=")
    refused(ChexpertPlusReader(str(root)).read, str(root), "no such directory")
    root.mkdir()
    refused(ChexpertPlusReader(str(root)).read, str(root), TABLE, "missing")
    (root / TABLE).write_text(",".join(HEADER))
    refused(ChexpertPlusReader(str(root)).read, str(root), "PNG/", "no images")
    (root / "train").mkdir()
    refused(ChexpertPlusReader(str(root)).read, TABLE, "no rows")
    (root / TABLE).write_text(",".join(HEADER).replace("ap_pa", "view"))
    refused(ChexpertPlusReader(str(root)).read, "missing column 'ap_pa'", "'view'")


def test_wrong_encoding_and_choices(tmp_path: Path) -> None:
    make(tmp_path, [row(FRONTAL, section_impression="señal sentinel")], encoding="latin-1")
    refused(ChexpertPlusReader(str(tmp_path)).read, TABLE, "UTF-8")
    refused(ChexpertPlusReader(str(tmp_path), prompt="report").read, "data.prompt")
    for views in (["LL"], []):
        refused(ChexpertPlusReader(str(tmp_path), views=views).read, "data.views")


def test_config() -> None:
    config, nih = (yaml.safe_load((CONF / f"{name}.yaml").read_text()) for name in ("chexpert_plus", "nih_cxr14"))
    target = "cxrguard.data.chexpert_plus.ChexpertPlusReader"
    assert set(nih) <= set(config) and config["views"] == ["frontal"]
    assert config["reader"] == {"_target_": target} | {k: f"${{data.{k}}}" for k in ("root", "prompt", "views")}
