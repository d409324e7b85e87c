"""The NIH reader on a made data set and on the real sample."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrguard.data.images import load_pixels
from cxrguard.data.nih_cxr14 import TABLE, NihCxr14Reader, write_prompt
from cxrguard.errors import BadInputError

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
GOOD = ["i1.png,Atelectasis|Pneumonia,0,61,77,F,AP,1,1,0.1,0.1", "i2.png,No Finding,1,62,18,M,PA,1,1,0.1,0.1"]


def make(root: Path, rows: list[str], images: tuple[str, ...] = ("i1.png", "i2.png"), header: str = HEADER) -> NihCxr14Reader:
    (root / "images").mkdir(parents=True)
    (root / TABLE).write_text("\n".join([header, *rows]) + "\n")
    for name in images:
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / "images" / name)
    return NihCxr14Reader(str(root))


def test_records_of_a_good_table(tmp_path: Path) -> None:
    records, quarantined = make(tmp_path / "d", GOOD).read()
    assert quarantined == []
    first, second = records
    assert (first.subject_id, first.dicom_id, first.view, first.row) == ("61", "i1", "AP", 1)
    assert first.labels == ("Atelectasis", "Pneumonia") and Path(first.image_path).is_file()
    assert first.prompt == "Portable AP chest radiograph of a ___ year old woman. Atelectasis. Pneumonia."
    assert second.prompt == "PA chest radiograph of a ___ year old man. No finding."


def test_the_archives_of_the_distribution_are_read_where_they_were_unpacked(tmp_path: Path) -> None:
    """``images_001/images/`` and so on; rows come in the table's order, not the parts'."""
    root = tmp_path / "d"
    make(root, [*GOOD, "i3.png,Mass,0,63,40,F,PA,1,1,0.1,0.1"], images=())
    (root / "images").rmdir()
    (root / "images_0012").mkdir()  # not a part, nor is a file of a part's name
    (root / "images_003").write_text("")
    for part, name in (("images_012", "i1.png"), ("images_001", "i2.png"), ("images_001", "i1.png")):
        (root / part / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / part / "images" / name)
    records, quarantined = NihCxr14Reader(str(root)).read()
    assert [Path(r.image_path).relative_to(root).as_posix() for r in records] == ["images_001/images/i1.png", "images_001/images/i2.png"]
    assert [(q.row, q.reason) for q in quarantined] == [(3, "the image file is missing")]


def test_parts_may_lie_beside_images(tmp_path: Path) -> None:
    make(tmp_path / "d", GOOD, images=("i1.png",))
    (tmp_path / "d" / "images_002" / "images").mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "d" / "images_002" / "images" / "i2.png")
    records, quarantined = NihCxr14Reader(str(tmp_path / "d")).read()
    assert quarantined == [] and all(Path(r.image_path).is_file() for r in records)


def test_without_markers_the_age_stands_there(tmp_path: Path) -> None:
    make(tmp_path / "d", GOOD)
    records, _ = NihCxr14Reader(str(tmp_path / "d"), deid_markers=False).read()
    assert [r.prompt for r in records] == [
        "Portable AP chest radiograph of a 77 year old woman. Atelectasis. Pneumonia.",
        "PA chest radiograph of an 18 year old man. No finding.",
    ]


@pytest.mark.parametrize(
    ("age", "words"), [(8, "an 8 year old girl"), (11, "an 11 "), (17, "a 17 "), (1, "a 1 "), (85, "an 85 year old woman"), (58, "a 58 ")]
)
def test_article_and_person(age: int, words: str) -> None:
    assert words in write_prompt("PA", "F", age, ["Pleural_Thickening"], False)
    assert "Pleural thickening." in write_prompt("PA", "F", age, ["Pleural_Thickening"], False)


def test_views_filter_without_quarantine(tmp_path: Path) -> None:
    make(tmp_path / "d", GOOD)
    records, quarantined = NihCxr14Reader(str(tmp_path / "d"), views=["PA"]).read()
    assert [r.view for r in records] == ["PA"] and quarantined == []
    for views in (["LATERAL"], []):
        with pytest.raises(BadInputError, match=r"data\.views"):
            NihCxr14Reader(str(tmp_path / "d"), views=views).read()


def test_a_filter_that_leaves_nothing_is_an_error(tmp_path: Path) -> None:
    make(tmp_path / "d", GOOD[:1])
    with pytest.raises(BadInputError, match="view position"):
        NihCxr14Reader(str(tmp_path / "d"), views=["PA"]).read()


BAD = {
    "i1.png,Mass,0,61,old,F,AP,1,1,0.1,0.1": "age",
    "i1.png,Mass,0,61,414,F,AP,1,1,0.1,0.1": "age",
    "i1.png,Mass,0,61,-3,F,AP,1,1,0.1,0.1": "age",
    "i1.png,Mass,0,61,,F,AP,1,1,0.1,0.1": "age",
    "i1.png,,0,61,40,F,AP,1,1,0.1,0.1": "labels",
    "i1.png, | ,0,61,40,F,AP,1,1,0.1,0.1": "labels",
    "i1.png,Mass,0,,40,F,AP,1,1,0.1,0.1": "patient",
    "i1.png,Mass,0,61,40,X,AP,1,1,0.1,0.1": "sex",
    "i1.png,Mass,0,61,40,F,LL,1,1,0.1,0.1": "view",
    "gone.png,Mass,0,61,40,F,AP,1,1,0.1,0.1": "missing",
    "../secret.png,Mass,0,61,40,F,AP,1,1,0.1,0.1": "leads out of data.root",
    "/secret.png,Mass,0,61,40,F,AP,1,1,0.1,0.1": "leads out of data.root",
    "i1.png,nan,0,61,40,F,AP,1,1,0.1,0.1": "labels",
    "i1.png,Mass,0,NaN,40,F,AP,1,1,0.1,0.1": "patient",
    "i2.png,Mass,0,61,40,F,AP,1,1,0.1,0.1": "earlier row",
    "i1.png,Mass,0,61,40,F": "number of fields",
}


@pytest.mark.parametrize(("row", "reason"), BAD.items())
def test_bad_rows_are_quarantined_by_number_and_without_text(tmp_path: Path, row: str, reason: str) -> None:
    records, quarantined = make(tmp_path / "d", [GOOD[1], row, GOOD[0]]).read()
    assert [r.row for r in records] == [1, 3]
    assert [q.row for q in quarantined] == [2] and reason in quarantined[0].reason
    assert not re.search(r"png|Mass|61|414|old", quarantined[0].reason)


def check_error(root: str, *parts: str) -> None:
    with pytest.raises(BadInputError) as caught:
        NihCxr14Reader(root).read()
    for part in parts:
        assert part in str(caught.value)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    check_error("", "data.root=")
    check_error(str(tmp_path / "none"), str(tmp_path / "none"), "data.root")
    (tmp_path / "d").mkdir()
    check_error(str(tmp_path / "d"), TABLE, "missing")
    (tmp_path / "d" / TABLE).write_text(HEADER + "\n" + GOOD[0])
    check_error(str(tmp_path / "d"), "images/", "images_001/images/", "missing", "Unpack")


def test_missing_column_names_those_found(tmp_path: Path) -> None:
    make(tmp_path / "d", GOOD, header=HEADER.replace("Patient Age", "Years"))
    check_error(str(tmp_path / "d"), "missing column 'Patient Age'", "'Years'", "'View Position'")


def test_a_table_without_header_does_not_leak_its_first_row(tmp_path: Path) -> None:
    make(tmp_path / "d", GOOD[1:], header=GOOD[0])
    with pytest.raises(BadInputError, match="header row missing") as caught:
        NihCxr14Reader(str(tmp_path / "d")).read()
    assert not re.search(r"i1|Atelectasis|77", str(caught.value))


def test_empty_table_and_broken_quotes(tmp_path: Path) -> None:
    make(tmp_path / "d", [])
    check_error(str(tmp_path / "d"), "no rows")
    (tmp_path / "d" / TABLE).write_text(HEADER + '\n"i1.png,Mass\n' + GOOD[1])
    check_error(str(tmp_path / "d"), "CSV", "line")
    (tmp_path / "d" / TABLE).write_bytes(HEADER.encode() + b"\n\xff\xfe")
    check_error(str(tmp_path / "d"), "UTF-8")
    (tmp_path / "d" / TABLE).write_text("")
    check_error(str(tmp_path / "d"), "missing column")


def test_the_real_sample() -> None:
    shared = Path(os.environ.get("CXRGUARD_SHARED") or Path(__file__).parents[4] / "shared")
    root = shared / "data" / "nih_cxr14_1000"
    if not root.is_dir():
        pytest.skip("the NIH sample is not on this machine")
    records, quarantined = NihCxr14Reader(str(root)).read()
    assert len(records) == 1000 and quarantined == []
    assert len({r.subject_id for r in records}) == 682
    assert all(r.prompt.count("___") == 1 and len(r.prompt.split()) < 45 for r in records)
    assert not any(re.search(r"\d", r.prompt) for r in records)
    assert load_pixels(Path(records[0].image_path), 64).std() > 10
