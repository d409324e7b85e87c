"""The MIMIC-CXR-JPG reader on a miniature in the data set's own layout; ids and reports are made up."""

from __future__ import annotations

import gzip
import importlib
import re
import stat
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from data_miniatures.mimic import METADATA_HEADER, Film, dicom, write_tables, zip_reports
from data_miniatures.tables import write_rows

from cxrguard.data import mimic_cxr_jpg, report_sections
from cxrguard.data.mimic_cxr_jpg import LABEL_TABLES, METADATA, SPLIT, MimicCxrJpgReader
from cxrguard.data.report_sections import ARCHIVE
from cxrguard.errors import BadInputError

CONF = Path(__file__).parents[3] / "conf" / "data" / "mimic_cxr_jpg.yaml"
SECRETS = re.compile(r"1000000\d|5000000\d|[0-9a-f]{8}-[0-9a-f]{8}|Effusion seen|Clear now|Cough")


def report(number: int) -> str:
    head = " FINAL REPORT\n INDICATION: Cough.\n \n FINDINGS: \n \n"
    return f"{head} Effusion seen {number}.\n \n IMPRESSION: \n \n Clear now {number},\n unchanged.\n"


FILMS = [
    Film(1, "10000001", "50000001", "PA", "train", {"Edema": "1.0", "Pneumonia": "-1.0", "Fracture": "0.0"}),
    Film(2, "10000001", "50000001", "LATERAL", "train"),
    Film(3, "10000001", "50000002", "AP", "train", {"No Finding": "1.0"}),
    Film(4, "10000002", "50000003", "AP", "validate"),
    Film(5, "19000003", "50000004", "", "test"),
    Film(6, "19000003", "50000005", "PA", "test", {"Lung Opacity": "1", "Support Devices": "1.0"}),
]


def write_files(root: Path, films: Sequence[Film]) -> None:
    """Empty images, as the reader must not open them, and the reports beside the studies."""
    for film in films:
        folder = root / film.folder / f"s{film.study}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{dicom(film.number)}.jpg").touch()
        (root / film.folder / f"s{film.study}.txt").write_text(report(int(film.study[-2:])))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_files(tmp_path / "jpg", FILMS)
    write_tables(tmp_path / "jpg", FILMS)
    return tmp_path / "jpg"


def read(root: Path, **changes: Any) -> tuple[list[Any], list[Any]]:
    return MimicCxrJpgReader(**{"root": str(root), **changes}).read()


def check_error(root: Path | str, *parts: str, **changes: Any) -> None:
    with pytest.raises(BadInputError) as caught:
        MimicCxrJpgReader(**{"root": str(root), **changes}).read()
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert not SECRETS.search(message.replace(str(root), "")), message


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old)
    path.write_text(text.replace(old, new, 1))


def test_frontal_films_with_their_reports_and_labels(root: Path) -> None:
    records, quarantined = read(root)
    assert quarantined == []
    assert [(r.row, r.dicom_id, r.view) for r in records] == [(n, dicom(n), v) for n, v in ((1, "PA"), (3, "AP"), (4, "AP"), (6, "PA"))]
    assert [r.prompt for r in records] == [f"Clear now {n}, unchanged." for n in (1, 2, 3, 5)]
    assert [r.labels for r in records] == [("Edema",), ("No Finding",), (), ("Lung Opacity", "Support Devices")]
    assert all(Path(r.image_path).is_file() and r.pixels is None for r in records)
    assert (records[0].subject_id, records[0].study_id) == ("10000001", "50000001")


@pytest.mark.parametrize("where", ["zip", "folder of the zip", "root of the zip", "folder"])
def test_gzipped_tables_and_reports_elsewhere(root: Path, tmp_path: Path, where: str) -> None:
    plain = read(root)
    for path in root.glob("*.csv"):
        path.unlink()
    write_tables(root, FILMS, packed=True)
    other = tmp_path / "reports"
    other.mkdir()
    if where == "folder":
        for film in FILMS:
            (other / film.folder).mkdir(parents=True, exist_ok=True)
            (other / film.folder / f"s{film.study}.txt").write_text(report(int(film.study[-2:])))
        reports = str(other)
    elif where == "root of the zip":
        zip_reports(root, root / ARCHIVE)
        reports = ""
    else:
        path = zip_reports(root, other / (ARCHIVE if where == "folder of the zip" else "my.zip"))
        reports = str(other) if where == "folder of the zip" else str(path)
    assert read(root, reports=reports) == plain
    assert not list(other.rglob("*.txt")) or where == "folder"


def test_choices_of_view_split_prompt_and_labels(root: Path) -> None:
    assert [r.row for r in read(root, views=None)[0]] == [1, 2, 3, 4, 5, 6]
    assert [r.view for r in read(root, views=None)[0]] == ["PA", "", "AP", "AP", "", "PA"]
    assert [r.row for r in read(root, views=["LATERAL"])[0]] == [2]
    assert [r.row for r in read(root, split=["train"])[0]] == [1, 3]
    assert [r.row for r in read(root, split=["validate", "test"])[0]] == [4, 6]
    assert read(root, prompt="findings")[0][0].prompt == "Effusion seen 1."
    assert read(root, prompt="both")[0][0].prompt == "Effusion seen 1.\nClear now 1, unchanged."
    assert read(root, labels=None)[0][0].labels == ()
    edit(root / LABEL_TABLES["negbio"], "1.0", "-1.0")
    assert read(root, labels="negbio") != read(root, labels="chexpert")


def test_only_the_tables_that_are_asked_for_are_needed(root: Path) -> None:
    for name in (SPLIT, *LABEL_TABLES.values()):
        (root / name).unlink()
    assert len(read(root, labels=None)[0]) == 4
    check_error(root, LABEL_TABLES["chexpert"], "missing", "PhysioNet")
    check_error(root, SPLIT, "missing", labels=None, split=["train"])
    check_error(root, LABEL_TABLES["negbio"], labels="negbio")


@pytest.mark.parametrize("column", ["path", "dicom_id", "image"])
def test_annotated_prompts_come_from_a_table(root: Path, tmp_path: Path, column: str) -> None:
    films = [FILMS[0], FILMS[2], FILMS[3]]
    ids = [dicom(f.number) if column == "dicom_id" else f"x/{f.folder}/s{f.study}/{dicom(f.number)}.jpg" for f in films]
    table = tmp_path / "LLAVARAD_ANNOTATIONS_TRAIN.csv"
    write_rows(table, [[column, "annotated_prompt"], *zip(ids, ["One.", " Two\nlines. ", ""], strict=True)])
    zip_reports(root, tmp_path / "unused.zip")
    records, quarantined = read(root, prompt="annotated", annotations=str(table))
    assert [(r.row, r.prompt) for r in records] == [(1, "One."), (3, "Two lines.")]
    assert [(q.row, q.reason) for q in quarantined] == [(4, "the image has no annotated prompt"), (6, "the image has no annotated prompt")]
    write_rows(table, [[column, "annotated_prompt"], [ids[0], "One."], [ids[0], "Clear now."]])
    check_error(root, str(table), "row 2", "another prompt", prompt="annotated", annotations=str(table))
    write_rows(table, [["text", "annotated_prompt"], [ids[0], "One."]])
    check_error(root, str(table), "'path'", prompt="annotated", annotations=str(table))
    check_error(root, "data.annotations", prompt="annotated")


def test_what_is_missing_or_misspelt_is_said(root: Path, tmp_path: Path) -> None:
    check_error("", "data.root=")
    check_error(tmp_path / "none", str(tmp_path / "none"), "data.root")
    (tmp_path / "empty").mkdir()
    check_error(tmp_path / "empty", "files/", "missing")
    check_error(root, "data.reports", reports=str(tmp_path / "empty"))
    check_error(root, "data.reports", reports=str(tmp_path / "none.zip"))
    check_error(root, "data.prompt", prompt="summary")
    check_error(root, "data.labels", labels="radgraph")
    for key, value in (("views", "PA"), ("views", []), ("views", ["FRONT"]), ("split", ["val"]), ("split", "train"), ("split", [])):
        check_error(root, f"data.{key}", **{key: value})
    check_error(root, "data.views", "data.split", views=["LL"])
    (root / METADATA).unlink()
    check_error(root, METADATA, ".gz", "missing")


BAD_IDS = {
    "dicom_id": ["", "nan", "../../../../etc/passwd", dicom(1).upper(), dicom(1) + "\n", "/" + dicom(1), dicom(1)[:-1]],
    "subject_id": ["", "NaN", "10000001.0", "..", "1000000", "20000001", "1000000١"],
    "study_id": ["", "nan", "../../50000001", "500000011", "40000001", "5000000١"],
}


@pytest.mark.parametrize(("column", "value"), [(column, value) for column, values in BAD_IDS.items() for value in values])
def test_an_id_of_another_form_never_becomes_a_path(root: Path, column: str, value: str) -> None:
    row: dict[str, object] = dict(zip(METADATA_HEADER, [dicom(1), "10000001", "50000001", "", "PA", 1, 1], strict=True))
    row[column] = value
    write_rows(root / METADATA, [METADATA_HEADER, list(row.values())])
    records, quarantined = read(root)
    if value == dicom(1) + "\n":  # white space around a cell is no fault
        assert len(records) == 1
        return
    assert records == [] and [(q.row, q.reason) for q in quarantined] == [(1, f"the {column} is empty or not of MIMIC-CXR's form")]


def test_bad_rows_are_quarantined_by_number_and_without_text(root: Path) -> None:
    films = [*FILMS, FILMS[0], Film(7, "10000002", "50000006"), Film(8, "10000002", "50000003")]
    write_tables(root, [*FILMS, Film(8, "10000002", "50000003", split="validate")])
    rows = [[dicom(f.number), f.subject, f.study, "", f.view, 1, 1] for f in films]
    write_rows(root / METADATA, [METADATA_HEADER, *rows, rows[0][:3]])
    records, quarantined = read(root, split=["train", "validate", "test"])
    assert [r.row for r in records] == [1, 3, 4, 6]
    assert [(q.row, q.reason) for q in quarantined] == [
        (7, "the image is that of an earlier row"),
        (8, f"the image has no row in {SPLIT}"),
        (9, "the image file is missing or cannot be reached"),
        (10, "the number of fields differs from the header's"),
    ]


def test_an_image_that_is_a_directory_is_missing(root: Path) -> None:
    image = root / FILMS[0].folder / "s50000001" / f"{dicom(1)}.jpg"
    image.unlink()
    image.mkdir()
    assert [q.reason for q in read(root)[1]] == ["the image file is missing or cannot be reached"]


BAD_REPORTS = {
    "is missing": None,
    "no impression, findings or last paragraph": b" FINAL REPORT Clear now 1.",
    "has no impression": b"",
    "is not UTF-8 text": "\n IMPRESSION: Clear now, caf\xe9.".encode("latin-1"),
    "not UTF-8": report(1).encode("utf-16"),
    "UTF-8 text": report(1).encode("utf-16-le"),
    "far too long": report(1).encode() + b" " * (1 << 20),
}


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("reason", BAD_REPORTS)
def test_a_report_that_cannot_be_used_costs_its_images_only(root: Path, reason: str, archived: bool) -> None:
    content, path = BAD_REPORTS[reason], root / FILMS[0].folder / "s50000001.txt"
    path.unlink() if content is None else path.write_bytes(content)
    if archived:
        zip_reports(root, root / ARCHIVE)
    if archived and reason == "far too long":
        check_error(root, ARCHIVE, "member 1 of 5", "larger than")
        return
    records, quarantined = read(root, views=None)
    assert [q.row for q in quarantined] == [1, 2] and all(reason in q.reason for q in quarantined)
    assert [r.row for r in records] == [3, 4, 5, 6] and not any(SECRETS.search(q.reason) for q in quarantined)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(root: Path) -> None:
    plain = read(root)
    for path in (*root.glob("*.csv"), *root.rglob("s*.txt")):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read(root) == plain


def test_a_study_is_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose = Mock(wraps=report_sections.choose_prompt)
    monkeypatch.setattr(report_sections, "choose_prompt", choose)
    assert len(read(root, views=None)[0]) == 6 and choose.call_count == 5


def test_a_split_file_that_puts_a_patient_in_two_splits_is_refused(root: Path) -> None:
    write_tables(root, [*FILMS[:2], Film(3, "10000001", "50000002", "AP", "test"), *FILMS[3:]])
    for split in (None, ["train"]):
        check_error(root, SPLIT, "1 patient(s) in two splits", "row 3", split=split)


def test_a_split_file_must_agree_with_the_metadata_and_itself(root: Path) -> None:
    edit(root / SPLIT, "10000002", "10000009")
    assert [(q.row, q.reason) for q in read(root, split=["train"])[1]] == [(4, f"the patient differs from the one in {SPLIT}")]
    edit(root / SPLIT, dicom(4), dicom(6))
    check_error(root, SPLIT, "row 6", "another patient")
    write_tables(root, FILMS)
    edit(root / SPLIT, "validate", "val")
    check_error(root, SPLIT, "row 4", "the split is not train, validate, test")
    write_tables(root, [*FILMS, FILMS[0]])  # the same row twice says nothing new
    assert len(read(root, split=["train"])[0]) == 2


def test_blank_and_nan_labels_are_none_and_others_are_refused(root: Path) -> None:
    table = root / LABEL_TABLES["chexpert"]
    edit(table, "1.0", "nan")
    assert "" in table.read_text().split(",") and read(root)[1] == []
    edit(table, "-1.0", "maybe")
    check_error(root, str(table), "row", "Pneumonia", "not 1, 0, -1 or blank")
    write_tables(root, FILMS)
    table.write_text(table.read_text() + table.read_text().splitlines()[-1].replace(",1.0", ",0.0") + "\n")
    check_error(root, str(table), "row 6", "other labels")
    write_tables(root, FILMS)
    edit(table, "50000003", "../50000003")
    check_error(root, str(table), "study_id", "form")
    write_tables(root, FILMS)
    table.write_text(table.read_text() + "10000001,50000001\n")
    check_error(root, str(table), "row 6", "number of fields")


@pytest.mark.parametrize("name", [METADATA, SPLIT, LABEL_TABLES["chexpert"]])
def test_damaged_tables_are_refused_by_name(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / name
    good = path.read_text()
    faults: dict[str, bytes] = {
        "must occur once": b"",
        "no rows": good.splitlines()[0].encode() + b"\n",
        "occurs 0 times": good.split("\n", 1)[1].encode(),
        "occurs 2 times": "".join(f"{line},{line}\n" for line in good.splitlines()).encode(),
        "UTF-8": good.encode() + b"\xff\xfe",
        "CSV near line": good.encode() + b'"' + dicom(9).encode(),
    }
    for part, content in faults.items():
        path.write_bytes(content)
        check_error(root, str(path), part)
    path.unlink()
    packed = root / f"{name}.gz"
    whole = gzip.compress(good.encode())
    for part, content in {"damaged": whole[:-20], "cannot be read": b"no gzip", "damaged or": whole[:30] + b"\0" * 40 + whole[70:]}.items():
        packed.write_bytes(content)
        check_error(root, str(packed), part)
    for limit in ("_MAX_LINE", "_MAX_TABLE"):
        with monkeypatch.context() as patch:
            patch.setattr(mimic_cxr_jpg, limit, 3000)
            packed.write_bytes(gzip.compress((good + "0" * 5000).encode()))
            check_error(root, str(packed), "far larger")


def hostile(kind: str) -> tuple[zipfile.ZipInfo | str, bytes]:
    if kind == "link":
        link = zipfile.ZipInfo("files/p10/p10000001/s50000009.txt")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        return link, b"/etc/passwd"
    if kind == "bomb":
        return "files/p10/p10000001/s50000009.txt", b"\0" * (2 << 20)
    return kind, b"\n IMPRESSION: Clear now.\n"


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("bomb", "larger than"),
        ("link", "is a link"),
        ("../../files/s50000001.txt", "leads out"),
        ("files/../../s50000001.txt", "leads out"),
        ("/etc/s50000001.txt", "leads out"),
        ("C:\\s50000001.txt", "leads out"),
        ("files\\..\\s50000001.txt", "leads out"),
    ],
)
def test_hostile_archives_are_refused_by_member_number(root: Path, kind: str, part: str) -> None:
    zip_reports(root, root / ARCHIVE)
    with zipfile.ZipFile(root / ARCHIVE, "a", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(*hostile(kind))
    check_error(root, ARCHIVE, part, "member 6 of 6")


def test_other_archives_that_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_reports(root, root / ARCHIVE)
    good = path.read_bytes()
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("files/p10/p10000001/s50000001.txt", "\n IMPRESSION: Clear now.\n")
    check_error(root, ARCHIVE, "name of an earlier member")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("files/p10/p10000001/s50000001.txt", "\n IMPRESSION: Clear now.\n")
    check_error(root, ARCHIVE, "packed in a way")
    encrypted = bytearray(good)
    encrypted[good.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(encrypted)
    check_error(root, ARCHIVE, "member 1 of 5 is encrypted")
    path.write_bytes(good[: len(good) // 2])
    check_error(root, ARCHIVE, "not a readable zip")
    path.write_bytes(good)
    with monkeypatch.context() as patch:
        patch.setattr(report_sections, "_MAX_REPORTS", 200)
        check_error(root, ARCHIVE, "far too large")
    assert len(read(root)[0]) == 4


def test_a_member_that_lies_about_its_size_or_is_damaged_is_quarantined(root: Path) -> None:
    path = zip_reports(root, root / ARCHIVE)
    good = path.read_bytes()
    directory = good.index(b"PK\x01\x02")
    for place, change in ((directory + 24, b"\x05\0\0\0"), (directory + 16, b"\0\0\0\0"), (60, b"\xff" * 30)):
        path.write_bytes(good[:place] + change + good[place + len(change) :])
        records, quarantined = read(root)
        assert [(q.row, q.reason) for q in quarantined] == [(1, "the report is damaged in the archive")]
        assert [r.row for r in records] == [3, 4, 6]


def test_the_config_fits_the_reader(root: Path) -> None:
    config = yaml.safe_load(CONF.read_text())
    module, _, attribute = config["reader"].pop("_target_").rpartition(".")
    assert set(yaml.safe_load((CONF.parent / "nih_cxr14.yaml").read_text())) <= set(config)
    values = {key: config[value.removeprefix("${data.").removesuffix("}")] for key, value in config["reader"].items()}
    reader = getattr(importlib.import_module(module), attribute)(**{**values, "root": str(root)})
    assert [r.row for r in reader.read()[0]] == [1, 3]
