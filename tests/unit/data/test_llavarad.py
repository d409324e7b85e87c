"""CheXGenBench's LLaVA-Rad tables on a miniature; ids and prompts are made up."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path

import pytest
from data_miniatures.mimic import LLAVARAD_TRAIN as TRAIN
from data_miniatures.mimic import dicom
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxrguard.data.llavarad import LlavaRadReader
from cxrguard.data.mimic_images import parse_path
from cxrguard.errors import BadInputError

TEST = "LLAVARAD_ANNOTATIONS_TEST.csv"


def image(number: int, subject: int, study: int = 1) -> str:
    return f"p{10}/p{10000000 + subject}/s{50000000 + study}/{dicom(number)}.jpg"


def write(path: Path, rows: Sequence[Sequence[object]], column: str = "path") -> Path:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([[column, "conversations", "annotated_prompt"], *rows])
    return path


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    touch(tmp_path / "jpg" / "files", *(image(n, n) for n in range(1, 6)))
    return tmp_path / "jpg"


def read(table: Path, root: Path):
    return LlavaRadReader(str(table), str(root)).read()


@pytest.mark.parametrize("column", ["path", "image", "image_path"])
@pytest.mark.parametrize("prefix", ["files/", "mimic/", ""])
def test_images_are_found_whatever_stands_before_their_ids(root: Path, tmp_path: Path, prefix: str, column: str) -> None:
    table = write(tmp_path / TRAIN, [[prefix + image(n, n), "x", f" Mild\n edema {n}. "] for n in (1, 2)], column)
    records, quarantined = read(table, root)
    assert quarantined == []
    assert [(r.subject_id, r.study_id, r.dicom_id, r.prompt, r.row) for r in records] == [
        (f"1000000{n}", "50000001", dicom(n), f"Mild edema {n}.", n) for n in (1, 2)
    ]
    assert all(Path(r.image_path).is_file() for r in records)
    assert [r.dicom_id for r in read(table, root / "files")[0]] == [dicom(1), dicom(2)]


def test_gzipped(root: Path, tmp_path: Path) -> None:
    table = write(tmp_path / TRAIN, [[image(1, 1), "x", "Edema."]])
    packed = tmp_path / f"{TRAIN}.gz"
    packed.write_bytes(gzip.compress(table.read_bytes()))
    assert read(packed, root) == read(table, root)


def test_bad_rows_are_quarantined_without_a_word_of_them(root: Path, tmp_path: Path) -> None:
    touch(tmp_path, "secret/" + image(9, 9), image(9, 9))
    rows = [
        ["files/" + image(1, 1), "x", "Edema."],
        ["files/" + image(1, 1), "x", "Edema."],
        ["../" + image(9, 9), "x", "Secret."],
        [str(tmp_path / image(9, 9)), "x", "Secret."],
        ["files/p11/p10000001/s50000001/" + image(1, 1).rpartition("/")[2], "x", "Secret."],
        ["secret.jpg", "x", "Secret."],
        ["files/" + image(7, 7), "x", "Secret."],
        ["files/" + image(2, 2), "x", "nan"],
        ["", "x", "Secret."],
        ["short row"],
    ]
    records, quarantined = read(write(tmp_path / TRAIN, rows), root)
    assert [r.row for r in records] == [1]
    assert [q.row for q in quarantined] == list(range(2, 11))
    assert [q.reason.split(" the ")[0].split("that of")[0] for q in quarantined][:3] == [
        "the image is ",
        "the image path leads out of data.root",
        "the image path leads out of data.root",
    ]
    assert not any(word in q.reason for q in quarantined for word in ("ecret.", "10000001", dicom(1)))


def test_a_patient_on_both_sides_is_refused_with_the_counts(root: Path, tmp_path: Path) -> None:
    train = write(tmp_path / TRAIN, [[image(n, n), "x", "Edema."] for n in (1, 2, 3)])
    test = write(tmp_path / TEST, [[image(n, n), "x", "Edema."] for n in (4, 5)])
    assert len(read(train, root)[0]) == 3 and len(read(test, root)[0]) == 2
    write(test, [[image(4, 2, 2), "x", "Edema."], [image(5, 3, 2), "x", "Edema."]])
    for table in (train, test):
        with pytest.raises(BadInputError, match=r"2 patient\(s\) are in LLAVARAD_ANNOTATIONS_T") as caught:
            read(table, root)
        assert "1000000" not in str(caught.value)


def test_what_is_missing_is_named_with_the_remedy(root: Path, tmp_path: Path) -> None:
    table = write(tmp_path / TRAIN, [[image(1, 1), "x", "Edema."]])
    for path, where, words in (
        ("", str(root), r"data\.path="),
        (str(table), "", r"data\.root="),
        (str(table), str(tmp_path / "none"), "no such directory"),
        (str(tmp_path / "none.csv"), str(root), "no such file"),
        (str(write(tmp_path / "other.csv", [], "file")), str(root), "no rows"),
        (str(write(tmp_path / "other2.csv", [["a", "b", "c"]], "file")), str(root), "path, image, image_path"),
    ):
        with pytest.raises(BadInputError, match=words):
            LlavaRadReader(path, where).read()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=20)), min_size=1, max_size=4))
def test_any_table_gives_a_record_or_a_reason_for_each_row(root: Path, tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    lines = [[path.replace("\0", ""), "x", text.replace("\0", "")] for path, text in rows]
    table = tmp_path / TRAIN
    with table.open("w", newline="", encoding="utf-8", errors="replace") as file:
        csv.writer(file).writerows([["path", "conversations", "annotated_prompt"], *lines])
    records, quarantined = read(table, root)
    assert records == [] and [q.row for q in quarantined] == list(range(1, len(rows) + 1))


@given(st.text(max_size=80))
def test_ids_come_from_paths_of_the_form_only(text: str) -> None:
    assert parse_path(text) is None


def test_parsed_ids() -> None:
    found = parse_path(f"/a/b/{image(3, 4, 5)}")
    assert found is not None and (found.dicom, found.subject, found.study) == (dicom(3), "10000004", "50000005")
    assert found.path == "files/" + image(3, 4, 5) and parse_path("x" + image(3, 4, 5)) is None
