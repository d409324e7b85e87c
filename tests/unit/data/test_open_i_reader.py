"""The Open-I reader on miniatures of both layouts, on hostile files, and on the real reports."""

from __future__ import annotations

import gzip
import json
import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from data_miniatures.open_i import pack, write_projections
from data_miniatures.open_i import xml as report_xml
from PIL import Image

from cxrguard.data import open_i, open_i_reports
from cxrguard.data.images import load_pixels
from cxrguard.data.open_i import OpenIReader
from cxrguard.data.open_i_reports import parse_report, read_reports
from cxrguard.data.prepare import load_images
from cxrguard.errors import BadInputError

CONF = Path(__file__).parents[3] / "conf" / "data"
SHARED = Path(os.environ.get("CXRGUARD_SHARED") or Path(__file__).parents[4] / "shared")
REAL = SHARED / "data" / "openi" / "NLMCXR_reports.tgz"
IMAGES = {1: ("IM-0001-3001", "IM-0001-4001"), 2: ("IM-0652-1001",), 10: ("IM-0002-1001",)}
FINDINGS, IMPRESSION = "The XXXX are clear <sentinel> & calm.", "Normal chest x-XXXX, sentinel."
DUMMY = "<eCitation>&a;</eCitation>"


def xml(uid: int, images: Sequence[str] = (), findings: str = FINDINGS, impression: str = IMPRESSION, terms: Sequence[str] = ()) -> str:
    return report_xml(uid, images, findings, impression, terms)


def save_images(folder: Path, names: Sequence[str]) -> None:
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        Image.fromarray(np.full((4, 4), 10 * i, np.uint8)).save(folder / name)


def make_xml(root: Path) -> Path:
    (root / "ecgen-radiology").mkdir(parents=True)
    terms = {1: ["normal"], 2: ["Cardiomegaly/borderline", "Pulmonary Artery/enlarged", "Cardiomegaly/mild"]}
    for uid, images in IMAGES.items():
        (root / "ecgen-radiology" / f"{uid}.xml").write_text(xml(uid, images, terms=terms.get(uid, ())))
    save_images(root / "NLMCXR_png", [f"CXR{uid}_{uid}_{name}.png" for uid, names in IMAGES.items() for name in names])
    return root


def make_csv(root: Path) -> Path:
    names = [(uid, f"{uid}_{name}.dcm.png") for uid, images in IMAGES.items() for name in images]
    save_images(root / "images" / "images_normalized", [name for _, name in names])
    rows = [f'{uid},normal,{"normal" if uid == 1 else "Cardiomegaly;Lung"},Chest,c,,"{FINDINGS}","{IMPRESSION}"' for uid in IMAGES]
    (root / open_i.REPORTS).write_text("\n".join(["uid,MeSH,Problems,image,indication,comparison,findings,impression", *rows]))
    write_projections(root, [f"{uid},{name},{'Lateral' if '3001' in name else 'Frontal'}" for uid, name in names])
    return root


def refused(call: object, *parts: str) -> None:
    with pytest.raises(BadInputError) as caught:
        call()  # type: ignore[operator]
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert "sentinel" not in str(caught.value) and "CXR1" not in str(caught.value)


# --- the XML layout


def test_xml_with_projections_gives_frontal_images(tmp_path: Path) -> None:
    root = make_xml(tmp_path / "d")
    write_projections(root, ["1,1_IM-0001-3001.dcm.png,Lateral", "1,1_IM-0001-4001.dcm.png,Frontal", "2,2_IM-0652-1001.dcm.png,Frontal"])
    with pytest.warns(UserWarning, match="1 of 4 images have no known view"):
        records, quarantined = OpenIReader(str(root)).read()
    assert quarantined == []
    assert [r.dicom_id for r in records] == ["CXR1_1_IM-0001-4001", "CXR2_2_IM-0652-1001", "CXR10_10_IM-0002-1001"]
    assert [(r.subject_id, r.study_id, r.row, r.view) for r in records] == [(f"CXR{u}",) * 2 + (n, "") for n, u in enumerate(IMAGES, 1)]
    assert [r.labels for r in records] == [("No Finding",), ("Cardiomegaly", "Pulmonary Artery"), ()]
    assert all(r.prompt == IMPRESSION and load_pixels(Path(r.image_path), 4).shape == (4, 4) for r in records)
    assert "sentinel" not in repr(records) and "sentinel" not in repr(read_reports(root / "ecgen-radiology"))


def test_all_views_need_no_projections_and_no_warning(tmp_path: Path) -> None:
    records, _ = OpenIReader(str(make_xml(tmp_path / "d")), prompt="both", views=None).read()
    assert len(records) == 4 and records[0].prompt == f"{FINDINGS}\n{IMPRESSION}"
    assert OpenIReader(str(tmp_path / "d"), prompt="findings", views=None).read()[0][0].prompt == FINDINGS


def test_the_archive_as_it_is_equals_the_directory(tmp_path: Path) -> None:
    root = make_xml(tmp_path / "d")
    unpacked = OpenIReader(str(root), views=None).read()
    files = {f"ecgen-radiology/{path.name}": path.read_bytes() for path in (root / "ecgen-radiology").iterdir()}
    pack(root / "NLMCXR_reports.tgz", {**files, "ecgen-radiology/._1.xml": b"\0", "ecgen-radiology/readme.txt": b"x"})
    for path in (root / "ecgen-radiology").iterdir():
        path.unlink()
    (root / "ecgen-radiology").rmdir()
    assert OpenIReader(str(root), views=None).read() == unpacked


def test_reports_without_text_are_quarantined(tmp_path: Path) -> None:
    root = make_xml(tmp_path / "d")
    (root / "ecgen-radiology" / "1.xml").write_text(xml(1, IMAGES[1], findings=" \n"))
    (root / "ecgen-radiology" / "2.xml").write_text(xml(2, IMAGES[2], findings="", impression=""))
    records, quarantined = OpenIReader(str(root), prompt="findings", views=None).read()
    assert [(r.row, r.prompt) for r in records] == [(1, IMPRESSION), (1, IMPRESSION), (3, FINDINGS)]
    assert [(q.row, q.reason) for q in quarantined] == [(2, "the report has neither findings nor impression")]


def test_views_that_leave_nothing_are_an_error(tmp_path: Path) -> None:
    root = make_csv(tmp_path / "d")
    write_projections(root, ["1,1_IM-0001-4001.dcm.png,Frontal"])
    refused(OpenIReader(str(root), views=["lateral"]).read, str(root), "data.views")


BOMB = '<!DOCTYPE e [<!ENTITY a "ha"><!ENTITY b "' + "&a;" * 1000 + '"><!ENTITY c "' + "&b;" * 1000 + '">]>'
HOSTILE = {
    "bomb": (BOMB + "<e>&c;</e>", "entity"),
    "external entity": ('<!DOCTYPE e [<!ENTITY a SYSTEM "file:///etc/passwd">]><e>&a;</e>', "entity"),
    "external document type": ('<!DOCTYPE e SYSTEM "http://127.0.0.1/e.dtd"><e/>', "entity"),
    "undefined entity": ("<e>&a;</e>", "well-formed"),
    "empty": ("", "well-formed"),
    "truncated": (xml(2)[:300], "well-formed"),
    "null byte": (xml(2).replace("sentinel", "\0"), "well-formed"),
    "no uid": (xml(2).replace("uId", "uid"), "uId"),
    "two uids": (xml(2).replace("<MeSH>", '<uId id="CXR3"/><MeSH>'), "uId"),
    "a uid that is a path": (xml(2).replace('"CXR2"', '"../CXR2"'), "uId"),
    "an image that climbs out": (xml(2, ["x/../../../secret"]), "image id"),
    "too large": (xml(2, findings="x" * 2**20), "too large"),
    "again": (xml(1), "earlier row"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_bad_report_is_quarantined_by_number_and_without_text(tmp_path: Path, name: str) -> None:
    text, reason = HOSTILE[name]
    root = make_xml(tmp_path / "d")
    (root / "ecgen-radiology" / "2.xml").write_text(text)
    records, quarantined = OpenIReader(str(root), views=None).read()
    assert [r.row for r in records] == [1, 1, 3]
    assert [q.row for q in quarantined] == [2] and reason in quarantined[0].reason
    assert not re.search(r"sentinel|CXR|secret|passwd|http", quarantined[0].reason)


def test_declarations_never_reach_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_i_reports.ElementTree, "fromstring", lambda _: pytest.fail("parsed"))
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert "refused" in str(parse_report(BOMB.encode(encoding), 1)) or "UTF-8" in str(parse_report(BOMB.encode(encoding), 1))


def test_encodings() -> None:
    good = xml(1, findings="Señal")
    for data in (good.encode(), good.encode("utf-8-sig"), good.replace('"utf-8"', '"utf-16"').encode()):
        report = parse_report(data, 1)
        assert not isinstance(report, str) and report.findings == "Señal"
    for data in (good.encode("latin-1"), good.encode("utf-16")):
        assert parse_report(data, 1) == "the report is not UTF-8 text"
    # a declaration written in UTF-7 stays text, whatever encoding the file claims
    hidden = '<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE e [+ADwAIQ-ENTITY a "ha">]>' + DUMMY
    assert parse_report(hidden.encode(), 1) == "the report is not well-formed XML"


def test_deep_nesting_is_no_crash() -> None:
    deep = xml(1).replace("<MeSH>", "<d>" * 100_000 + "</d>" * 100_000 + "<MeSH>")
    assert not isinstance(parse_report(deep.encode(), 1), str)


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    root = make_xml(tmp_path / "d")
    os.mkfifo(root / "ecgen-radiology" / "3.xml")
    (root / "ecgen-radiology" / "4.xml").mkdir()
    reports, quarantined = read_reports(root / "ecgen-radiology")
    assert len(reports) == 3 and [(q.row, "no plain file" in q.reason) for q in quarantined] == [(3, True), (4, True)]


def test_missing_and_damaged_images(tmp_path: Path) -> None:
    root = make_xml(tmp_path / "d")
    (root / "NLMCXR_png" / "CXR1_1_IM-0001-3001.png").unlink()
    (root / "NLMCXR_png" / "CXR2_2_IM-0652-1001.png").write_bytes(b"")
    records, quarantined = OpenIReader(str(root), views=None).read()
    assert [(q.row, q.reason) for q in quarantined] == [(1, "the image file is missing")]
    good, bad = load_images(records, 4)
    assert [r.row for r, _ in good] == [1, 3] and [q.row for q in bad] == [2]


def test_an_image_of_two_reports_counts_once(tmp_path: Path) -> None:
    root = make_xml(tmp_path / "d")
    (root / "ecgen-radiology" / "11.xml").write_text(xml(11).replace("<MeSH>", '<parentImage id="CXR2_2_IM-0652-1001"/><MeSH>'))
    records, quarantined = OpenIReader(str(root), views=None).read()
    assert len(records) == 4 and [(q.row, q.reason) for q in quarantined] == [(4, "the image is that of an earlier row")]


# --- archives that no honest tool makes


@pytest.mark.parametrize("name", ["../1.xml", "/tmp/1.xml", "ecgen-radiology/../../1.xml", "ecgen-radiology\\..\\1.xml"])
def test_members_that_climb_out_are_refused(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / "a.tgz", {"ecgen-radiology/2.xml": xml(2).encode(), name: xml(1).encode()})
    refused(lambda: read_reports(path), str(path), "member 2", "climbs out")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("ecgen-radiology/1.xml")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        archive.addfile(member)
    refused(lambda: read_reports(tmp_path / "a.tgz"), "member 1", "link or a device")


def test_archives_that_explode_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = pack(tmp_path / "large.tgz", {"1.xml": bytes(2**24)})
    refused(lambda: read_reports(large), "member 1", "MiB")
    many = pack(tmp_path / "many.tgz", {f"{i}.xml": b"" for i in range(40)})
    monkeypatch.setattr(open_i_reports, "MAX_MEMBERS", 30)
    refused(lambda: read_reports(many), "member 31", "30")
    monkeypatch.setattr(open_i_reports, "MAX_ARCHIVE", 2**20)
    total = pack(tmp_path / "total.tgz", {f"{i}.xml": bytes(2**19) for i in range(4)})
    refused(lambda: read_reports(total), "1 MiB")
    header = tarfile.TarInfo("1.xml")  # tarfile itself reads these at once
    header.pax_headers = {"comment": "0" * 2**23}
    with tarfile.open(tmp_path / "header.tgz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(header)
    refused(lambda: read_reports(tmp_path / "header.tgz"), "1 MiB")


def test_damaged_archives(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tgz", {f"{i}.xml": xml(i).encode() for i in range(1, 200)})
    whole = path.read_bytes()
    plain = gzip.decompress(whole)
    flipped = plain[:5000] + bytes([plain[5000] ^ 1]) + plain[5001:]
    checksum = gzip.compress(flipped)[:-8] + whole[-8:]  # the bytes of another archive under this one's checksum
    for data in (b"", b"no archive", whole[: len(whole) // 2], plain, checksum):
        path.write_bytes(data)
        refused(lambda: read_reports(path), str(path), "cannot be read")
    refused(lambda: read_reports(pack(path, {"readme.txt": b"x"})), "no report")


# --- the Kaggle copy


def test_csv_layout(tmp_path: Path) -> None:
    records, quarantined = OpenIReader(str(make_csv(tmp_path / "d"))).read()
    assert quarantined == []
    assert [(r.dicom_id, r.subject_id, r.row) for r in records] == [
        ("CXR1_1_IM-0001-4001", "CXR1", 2),
        ("CXR2_2_IM-0652-1001", "CXR2", 3),
        ("CXR10_10_IM-0002-1001", "CXR10", 4),
    ]
    assert records[0].labels == ("No Finding",) and records[1].labels == ("Cardiomegaly", "Lung")
    assert all(r.prompt == IMPRESSION and Path(r.image_path).is_file() for r in records)
    assert [r.row for r in OpenIReader(str(tmp_path / "d"), views="lateral").read()[0]] == [1]
    assert len(OpenIReader(str(tmp_path / "d"), views=None).read()[0]) == 4


CSV_BAD = {
    "3,3_IM-1-1001.dcm.png,Frontal": "no row of indiana_reports.csv",
    ",2_IM-0652-1001.dcm.png,Frontal": "uid",
    "nan,2_IM-0652-1001.dcm.png,Frontal": "uid",
    "2,../2_IM-0652-1001.dcm.png,Frontal": "plain name",
    "2,2_IM-0652-1001.dcm.png,Oblique": "projection",
    "2,2_IM-0652-1001.dcm.png,nan": "projection",
    "1,1_IM-0001-4001.dcm.png,Frontal": "earlier row",
    "2,2_IM-0652-2001.dcm.png,Frontal": "missing",
    "2,2_IM-0652-1001.dcm.png": "number of fields",
}


@pytest.mark.parametrize(("row", "reason"), CSV_BAD.items())
def test_bad_projections_are_quarantined(tmp_path: Path, row: str, reason: str) -> None:
    root = make_csv(tmp_path / "d")
    write_projections(root, ["1,1_IM-0001-4001.dcm.png,Frontal", row, "10,10_IM-0002-1001.dcm.png,Frontal"])
    records, quarantined = OpenIReader(str(root)).read()
    assert [r.row for r in records] == [1, 3]
    assert [q.row for q in quarantined] == [2] and reason in quarantined[0].reason
    assert "IM-" not in quarantined[0].reason


def test_duplicate_and_missing_reports(tmp_path: Path) -> None:
    root = make_csv(tmp_path / "d")
    table = root / open_i.REPORTS
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[1], lines[2].replace(IMPRESSION, "Another sentinel.")]))
    records, quarantined = OpenIReader(str(root)).read()
    assert [r.row for r in records] == [2, 4]  # the row that is there twice counts once
    assert [(q.row, q.reason) for q in quarantined] == [(3, "two rows of indiana_reports.csv have its uid and differ")]
    table.write_text("\n".join([lines[0], "1,nan,nan,c,i,,NaN,nan", lines[2], lines[3].replace(f'"{IMPRESSION}"', "")]))
    records, quarantined = OpenIReader(str(root)).read()
    assert [r.prompt for r in records] == [IMPRESSION, FINDINGS]  # NaN is no text, and no label
    assert [q.reason for q in quarantined] == ["the report has neither findings nor impression"]


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    root = make_csv(tmp_path / "d")
    good = (root / open_i.REPORTS).read_text()
    (root / open_i.REPORTS).write_bytes(good.replace("calm", "señal").encode("latin-1"))
    refused(OpenIReader(str(root)).read, open_i.REPORTS, "UTF-8")
    (root / open_i.REPORTS).write_text(good.replace("impression", "conclusion"))
    refused(OpenIReader(str(root)).read, "missing column 'impression'", "'conclusion'")


# --- what is missing, choices, config


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    root = tmp_path / "d"
    refused(OpenIReader("").read, "data.root=")
    refused(OpenIReader(str(root)).read, str(root), "no such directory")
    root.mkdir()
    refused(OpenIReader(str(root)).read, str(root), "ecgen-radiology", "NLMCXR_reports.tgz", "indiana_reports.csv")
    (root / open_i.REPORTS).write_text("uid\n")
    refused(OpenIReader(str(root)).read, str(root), open_i.PROJECTIONS, "missing")
    write_projections(root, [])
    refused(OpenIReader(str(root)).read, str(root), "images/images_normalized", "missing")
    (root / "ecgen-radiology").mkdir()
    refused(OpenIReader(str(root)).read, str(root), "NLMCXR_png", "missing")
    (root / "NLMCXR_png").mkdir()
    refused(OpenIReader(str(root)).read, "ecgen-radiology", "no report")


def test_choices(tmp_path: Path) -> None:
    root = str(make_xml(tmp_path / "d"))
    refused(OpenIReader(root, prompt="summary").read, "data.prompt", "impression, findings, both")
    for views in (["PA"], []):
        refused(OpenIReader(root, views=views).read, "data.views", "frontal, lateral")


def test_config() -> None:
    config, nih = (yaml.safe_load((CONF / f"{name}.yaml").read_text()) for name in ("open_i", "nih_cxr14"))
    assert set(nih) <= set(config) and config["views"] == ["frontal"]
    assert config["reader"] == {"_target_": "cxrguard.data.open_i.OpenIReader"} | {k: f"${{data.{k}}}" for k in ("root", "prompt", "views")}


# --- the real reports


@pytest.fixture(scope="module")
def real() -> Path:
    if not REAL.is_file():
        pytest.skip("the Open-I reports are not on this machine")
    return REAL


def test_all_real_reports_parse(real: Path) -> None:
    reports, quarantined = read_reports(real)
    assert quarantined == [] and len(reports) == 3955 and len({r.uid for r in reports}) == 3955
    assert sum(len(r.images) for r in reports) == 7470 and sum(not r.images for r in reports) == 104
    assert sum(not r.impression for r in reports) == 34 and sum(not r.findings for r in reports) == 530
    with (real.parent / "openi_reports.jsonl").open() as file:
        other = {r["id"]: r for r in map(json.loads, file)}
    for report in reports:
        assert [report.findings, report.impression, list(report.images)] == [
            (other[report.uid][key] or "").strip() if key != "images" else other[report.uid][key]
            for key in ("findings", "impression", "images")
        ]


def test_the_real_archive_without_its_images(real: Path, tmp_path: Path) -> None:
    (tmp_path / "NLMCXR_png").mkdir()
    (tmp_path / "NLMCXR_reports.tgz").symlink_to(real)
    for report in read_reports(real)[0]:
        for image in report.images:
            (tmp_path / "NLMCXR_png" / f"{image}.png").touch()
    records, quarantined = OpenIReader(str(tmp_path), views=None).read()
    assert len(records) + len(quarantined) == 7470 and {q.reason for q in quarantined} == {"the report has neither findings nor impression"}
    assert len(quarantined) < 0.01 * 7470  # the default data.max_bad_fraction lets the data set through
    assert len({r.dicom_id for r in records}) == len(records) and all(r.prompt.strip() for r in records)
