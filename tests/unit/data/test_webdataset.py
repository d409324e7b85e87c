"""WebDataset shards made with tarfile: what is read, what is set aside, which archives are refused."""

from __future__ import annotations

import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_miniatures.own import Member
from data_miniatures.own import write_shard as write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cxrguard.data.images import image_file
from cxrguard.data.prepare import load_images
from cxrguard.data.webdataset import WebDatasetReader
from cxrguard.errors import BadInputError


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(file, "png")
    return file.getvalue()


def sample(number: int, **values: Any) -> list[Member]:
    meta = {"subject_id": f"secret{number // 2}", "labels": ["Edema"], **values}
    return [
        (f"{number:06}.png", png(number)),
        (f"{number:06}.txt", b" Secret %d. " % number),
        (f"{number:06}.json", json.dumps(meta).encode()),
    ]


def read(root: Path, **changes: str):
    return WebDatasetReader(str(root), **changes).read()


def refusal(root: Path, **changes: str) -> str:
    with pytest.raises(BadInputError) as caught:
        read(root, **changes)
    assert "ecret" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./", "train/" + "long" * 30 + "/"])
def test_samples_of_all_shards_in_order(tmp_path: Path, form: int, prefix: str) -> None:
    shards = [[m for n in numbers for m in sample(n)] for numbers in ((0, 1, 2), (3, 4))]
    for i, members in enumerate(shards):
        write(tmp_path / f"{i:03}.tar", [(prefix + m[0], m[1]) for m in members], format=form)
    records, quarantined = read(tmp_path)
    assert quarantined == [] and [r.row for r in records] == [1, 2, 3, 4, 5]
    assert [r.prompt for r in records] == [f"Secret {n}." for n in range(5)]
    assert [r.subject_id for r in records] == ["secret0", "secret0", "secret1", "secret1", "secret2"]
    assert records[0].labels == ("Edema",) and len({r.dicom_id for r in records}) == 5
    good, bad = load_images(records, 8)
    assert bad == [] and [int(x[0, 0]) for _, x in good] == [0, 1, 2, 3, 4]
    assert image_file(records[4].image_path) == tmp_path / "001.tar"


def test_a_pattern_chooses_shards(tmp_path: Path) -> None:
    write(tmp_path / "train-0.tar", sample(0))
    write(tmp_path / "test-0.tar", sample(1))
    assert [r.prompt for r in read(tmp_path, shards="train-*.tar")[0]] == ["Secret 0."]
    for pattern in ("../*.tar", "*", "a/*.tar", "none-*.tar"):
        assert "shard" in refusal(tmp_path, shards=pattern)
    with pytest.raises(BadInputError, match=r"data\.root="):
        WebDatasetReader("").read()


def test_what_is_in_the_json(tmp_path: Path) -> None:
    members = [
        *sample(0, study_id=50, view="PA", labels=["Edema", " ", "NaN", None, float("nan"), "Edema", "Mass"]),
        *sample(1, labels=None, view="LATERAL"),
        *sample(2, labels=float("nan"), subject_id=7),
        *sample(3, labels=[]),
    ]
    write(tmp_path / "0.tar", members)
    records, _ = read(tmp_path)
    assert [r.labels for r in records] == [("Edema", "Mass"), (), (), ()]
    assert [r.view for r in records] == ["PA", "", "", ""] and records[2].subject_id == "7" and records[0].study_id == "50"


def test_bad_samples_are_quarantined(tmp_path: Path) -> None:
    json_of = json.dumps({"subject_id": "secret"}).encode()
    bad: list[list[Member]] = [
        sample(1)[1:],
        sample(2)[:1] + sample(2)[2:],
        sample(3)[:2],
        [("4.png", png(1)), ("4.txt", b" \n"), ("4.json", json_of)],
        [("5.png", png(1)), ("5.txt", b"caf\xe9 secret"), ("5.json", json_of)],
        [("6.png", png(1)), ("6.txt", b"x" * (1 << 20) + b"x"), ("6.json", json_of)],
        [("7.png", png(1)), ("7.txt", b"Secret."), ("7.json", b"[1]")],
        [("8.png", png(1)), ("8.txt", b"Secret."), ("8.json", b'{"secret')],
        sample(9, subject_id=None),
        sample(10, labels="Edema"),
        sample(11, labels={"Edema": 1}),
        sample(12, labels=[["Edema"]]),
        [*sample(13), ("000013.jpg", png(1))],
        sample(0),
        [("15.cls", b"1")],
        [("16.png", png(1)), ("16.txt", b"nan"), ("16.json", json_of)],
        [("17.png", png(1)), ("17.txt", b"Secret."), ("17.json", b"[" * 100_000)],
    ]
    write(tmp_path / "0.tar", [*sample(0), *(m for members in bad for m in members)])
    records, quarantined = read(tmp_path)
    assert [r.row for r in records] == [1]
    assert [q.row for q in quarantined] == list(range(2, len(bad) + 2))
    reasons = [q.reason for q in quarantined]
    assert not any("ecret" in reason for reason in reasons)
    assert "no .png" in reasons[0] and "no .txt" in reasons[1] and "no .json" in reasons[2] and "prompt" in reasons[3]
    assert "two images" in reasons[12] and "earlier sample" in reasons[13]


def test_folders_hidden_files_and_other_endings_do_no_harm(tmp_path: Path) -> None:
    folder = tarfile.TarInfo("train")
    folder.type = tarfile.DIRTYPE
    members = [folder, *sample(0), ("000000.mask.png", png(9)), ("000000.cls", b"1"), ("._000000.png", b"junk")]
    write(tmp_path / "0.tar", members)
    records, quarantined = read(tmp_path)
    assert len(records) == 1 and quarantined == [] and int(load_images(records, 8)[0][0][1][0, 0]) == 0


@pytest.mark.parametrize("name", ["../secret.png", "/secret.png", "a/../../secret.png", "..\\secret.png"])
def test_members_that_climb_out_are_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "0.tar", [*sample(0), (name, png(1))])
    assert "member 4 of the shard climbs out" in refusal(tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("secret.png")
    member.type, member.linkname = kind, "/etc/passwd"
    write(tmp_path / "0.tar", [*sample(0), member])
    assert "member 4 of the shard is a link or a device" in refusal(tmp_path)


def test_sparse_members_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "0.tar", [("a.png", b"x" * 512)], format=tarfile.GNU_FORMAT)
    data = bytearray((tmp_path / "0.tar").read_bytes())
    data[156:157] = tarfile.GNUTYPE_SPARSE
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + 8 * 32 + sum(data[156:512]))
    (tmp_path / "0.tar").write_bytes(data)
    assert "is sparse" in refusal(tmp_path)


def test_truncated_damaged_compressed_and_empty_shards_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "0.tar", [m for n in range(4) for m in sample(n)])
    data = path.read_bytes()
    whole = 512 * 24
    for kept in (100, 600, whole // 2, whole // 2 + 512, whole - 512, whole - 20, whole):
        path.write_bytes(data[:kept])
        assert "the shard cannot be read (truncated or damaged" in refusal(tmp_path), kept
    for place in (0, 1024, 5 * 1024, 512 * 22):
        path.write_bytes(data[:place] + b"\xff" * 512 + data[place + 512 :])
        assert "the shard cannot be read" in refusal(tmp_path), place
    write(tmp_path / "1.tgz", sample(0)).rename(path)
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    assert "uncompressed" in refusal(tmp_path)
    write(path, [])
    assert "no sample" in refusal(tmp_path)
    path.write_bytes(b"")
    assert "the shard cannot be read" in refusal(tmp_path)


def test_a_header_that_asks_for_gigabytes_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "0.tar", sample(0), format=tarfile.GNU_FORMAT)
    huge = tarfile.TarInfo("1.png")
    huge.size = 8 << 30
    data = path.read_bytes()
    path.write_bytes(data[: 512 * 6] + huge.tobuf(tarfile.GNU_FORMAT) + data[512 * 6 :])
    assert "member 4 of the shard has more than 1024 MiB" in refusal(tmp_path)


def test_loading_costs_the_same_at_the_end_of_a_large_shard(tmp_path: Path) -> None:
    write(tmp_path / "0.tar", _many(2000))
    records, _ = read(tmp_path)
    assert len(records) == 2000

    def seconds(some: list) -> float:
        start = time.perf_counter()
        assert not load_images(some, 8)[1]
        return time.perf_counter() - start

    first, last = (min(seconds(part) for _ in range(3)) for part in (records[:100], records[-100:]))
    assert last < 5 * first + 0.05


def _many(n: int) -> list[Member]:
    image = png(1)
    meta = b'{"subject_id": "p"}'
    return [m for i in range(n) for m in ((f"{i:06}.png", image), (f"{i:06}.txt", b"Secret."), (f"{i:06}.json", meta))]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
@given(st.integers(0, 512 * 12), st.binary(min_size=1, max_size=60))
def test_any_damage_is_refused_or_quarantined_without_text(tmp_path: Path, place: int, junk: bytes) -> None:
    path = write(tmp_path / "0.tar", [m for n in range(2) for m in sample(n)], format=tarfile.GNU_FORMAT)
    data = path.read_bytes()
    path.write_bytes(data[:place] + junk + data[place + len(junk) :])
    try:
        records, quarantined = read(tmp_path)
    except BadInputError as error:
        assert "ecret" not in str(error)
    else:
        assert not any("ecret" in q.reason for q in quarantined)
        load_images(records, 8)
