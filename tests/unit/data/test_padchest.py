"""The PadChest reader on a made data set."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from data_miniatures.padchest import HEADER, LABELS, REPORT, row
from data_miniatures.tables import write_dicts
from PIL import Image

from cxrguard.data.padchest import SPANISH, TABLE, PadchestReader, read_labels, write_prompt
from cxrguard.errors import BadInputError

CONF = Path(__file__).parents[3] / "conf" / "data"
DEEP = 40_000


GOOD = [row("a_01.png"), row("b_02.png", Projection="L"), row("c_03.png", Projection="AP_horizontal", Labels="['normal']")]


def make(root: Path, rows: list[dict[str, str]] = GOOD, folder: str = "7", encoding: str = "utf-8-sig") -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("a_01.png", "b_02.png", "c_03.png"):
        Image.fromarray(np.full((4, 4), DEEP, np.uint16)).save(root / folder / name)
    write_dicts(root / TABLE, HEADER, rows, encoding)
    return root


@pytest.fixture
def quiet() -> object:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PadChest's reports are Spanish")
        yield


def refused(call: Callable[[], object], *parts: str) -> None:
    with pytest.raises(BadInputError) as caught:
        call()
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert "centinela" not in str(caught.value)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("folder", ["7", "images/7", "images", "."])
def test_records_wherever_the_images_were_unpacked(tmp_path: Path, folder: str) -> None:
    records, quarantined = PadchestReader(str(make(tmp_path, folder=folder))).read()
    assert quarantined == [] and [r.row for r in records] == [1, 3]
    first, last = records
    assert (first.subject_id, first.study_id, first.dicom_id) == ("patient-a_01.png", "study-a_01.png", "a_01")
    assert (first.view, last.view) == ("PA", "AP") and first.prompt == REPORT
    assert first.labels == ("cardiomegaly", "pleural effusion") and last.labels == ("No Finding",)
    assert np.asarray(Image.open(first.image_path)).max() == DEEP  # the 16-bit file itself, as it is
    assert "centinela" not in repr(records)


def test_spanish_reports_are_warned_of(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.warns(UserWarning) as caught:
        PadchestReader(str(tmp_path)).read()
    assert [str(w.message) for w in caught] == [SPANISH]
    assert "Spanish" in SPANISH and "sanitizer" in SPANISH and "data.prompt=labels" in SPANISH
    records, _ = PadchestReader(str(tmp_path), prompt="labels").read()  # warnings are errors here
    assert [r.prompt for r in records] == ["PA chest radiograph. Cardiomegaly. Pleural effusion.", "AP chest radiograph. Normal."]


def test_labels_are_read_by_pattern() -> None:
    assert read_labels(LABELS) == ("cardiomegaly", "pleural effusion")
    assert read_labels("[\"bird's nest\", 'mass']") == ("bird's nest", "mass")
    for text in ("", "nan", "[]", "['']", "['nan']", "__import__(os)", "[" * 100_000):
        assert read_labels(text) == ()
    assert write_prompt("L", ["mass"]) == "Chest radiograph. Mass." and write_prompt("PA", []) == ""


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(("views", "rows"), [(None, [1, 2, 3, 5]), (["lateral"], [2]), (["PA"], [1]), (["AP"], [3]), ("frontal", [1, 3])])
def test_views_and_those_that_the_authors_excluded(tmp_path: Path, views: list[str] | None, rows: list[int]) -> None:
    make(tmp_path, [*GOOD, row("d_04.png", Projection="EXCLUDE"), row("e_05.png", Projection="UNK")])
    (tmp_path / "7" / "e_05.png").touch()
    records, quarantined = PadchestReader(str(tmp_path), views=views).read()
    assert [r.row for r in records] == rows and quarantined == []


BAD = {
    "no patient": (row("b_02.png", PatientID=""), "patient id"),
    "NaN patient": (row("b_02.png", PatientID="nan"), "patient id"),
    "no image": (row("b_02.png", ImageID=""), "image id"),
    "no report": (row("b_02.png", Report="nan"), "report"),
    "no projection": (row("b_02.png", Projection="nan"), "projection"),
    "twice": (row("a_01.png"), "earlier row"),
    "missing": (row("z_09.png"), "missing"),
    "climbs out": (row("../7/b_02.png"), "leads out of data.root"),
    "a folder that climbs out": (row("secret.png", ImageDir="../outside"), "missing"),
    "null byte": (row("b_02\0.png"), "missing"),
}


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_quarantined_by_number_and_without_text(tmp_path: Path, name: str) -> None:
    bad, reason = BAD[name]
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.png").touch()
    records, quarantined = PadchestReader(str(make(tmp_path / "d", [GOOD[0], bad, GOOD[2]]))).read()
    assert [r.row for r in records] == [1, 3]
    assert [q.row for q in quarantined] == [2] and reason in quarantined[0].reason
    assert not re.search(r"centinela|_0|patient-|outside", quarantined[0].reason)


@pytest.mark.usefixtures("quiet")
def test_nan_labels_and_short_rows(tmp_path: Path) -> None:
    make(tmp_path, [row("a_01.png", Labels="nan"), GOOD[2]])
    with (tmp_path / TABLE).open("a") as file:
        file.write("3,b_02.png,centinela\n")
    records, quarantined = PadchestReader(str(tmp_path)).read()
    assert [r.labels for r in records] == [(), ("No Finding",)]
    assert [(q.row, "number of fields" in q.reason) for q in quarantined] == [(3, True)]
    records, quarantined = PadchestReader(str(tmp_path), prompt="labels").read()
    assert [r.row for r in records] == [2] and [q.row for q in quarantined] == [1, 3] and "labels" in quarantined[0].reason


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    root = tmp_path / "d"
    refused(PadchestReader("").read, "data.root=")
    refused(PadchestReader(str(root)).read, str(root), "no such directory")
    root.mkdir()
    refused(PadchestReader(str(root)).read, str(root), TABLE, "missing", "Download")
    (root / f"{TABLE}.gz").touch()
    refused(PadchestReader(str(root)).read, str(root), TABLE, "gunzip")
    (root / TABLE).write_text(",".join(HEADER))
    refused(PadchestReader(str(root)).read, TABLE, "no rows")
    (root / TABLE).write_text(",".join(HEADER).replace("Projection", "View", 1))
    refused(PadchestReader(str(root)).read, "missing column 'Projection'")


def test_wrong_encoding_and_choices(tmp_path: Path) -> None:
    make(tmp_path, encoding="latin-1")
    refused(PadchestReader(str(tmp_path)).read, TABLE, "UTF-8")
    refused(PadchestReader(str(tmp_path), prompt="impression").read, "data.prompt", "report, labels")
    refused(PadchestReader(str(tmp_path), views=["COSTAL"]).read, "data.views")
    make(tmp_path, GOOD[1:2])
    refused(PadchestReader(str(tmp_path)).read, TABLE, "data.views")


def test_config() -> None:
    config, nih = (yaml.safe_load((CONF / f"{name}.yaml").read_text()) for name in ("padchest", "nih_cxr14"))
    assert set(nih) <= set(config) and config["views"] == ["frontal"]
    assert config["reader"] == {"_target_": "cxrguard.data.padchest.PadchestReader"} | {
        k: f"${{data.{k}}}" for k in ("root", "prompt", "views")
    }
