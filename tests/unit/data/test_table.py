"""The table reader on the three endings."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from data_miniatures.own import Rows, csv_of, jsonl_of, parquet_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxrguard.data import table as table_module
from cxrguard.data.spool import Spools
from cxrguard.data.table import TableReader, cell, read_table
from cxrguard.errors import BadInputError

WRITERS = [csv_of, jsonl_of, parquet_of]
Writer = Callable[[Rows, Path], Path]


def reader(path: Path, **changes: str) -> TableReader:
    return TableReader(**{"path": str(path), "image_column": "image", "prompt_column": "report", "subject_column": "patient", **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.png").touch()
    return tmp_path


@pytest.mark.parametrize("write", WRITERS)
def test_good_and_bad_rows(folder: Path, write: Writer) -> None:
    rows: Rows = [
        {"image": "a.png", "report": 'Line one,\n"two" ___.', "patient": "p7"},
        {"image": "a.png", "report": "  ", "patient": "p7"},
        {"image": "secret.png", "report": "Clear.", "patient": "p8"},
        {"image": str(folder / "a.png"), "report": " Clear. ", "patient": None},
        {"image": None, "report": "Clear.", "patient": "p9"},
        {"image": str(folder / "a.png"), "report": "Clear.", "patient": "p9"},
    ]
    records, quarantined = reader(write(rows, folder)).read()
    assert [(r.row, r.subject_id, r.prompt) for r in records] == [(1, "p7", 'Line one,\n"two" ___.'), (6, "p9", "Clear.")]
    assert all(Path(r.image_path).is_file() for r in records)
    assert [(q.row, q.reason.split(" is ")[0]) for q in quarantined] == [
        (2, "the prompt"),
        (3, "the image file"),
        (4, "the subject"),
        (5, "the image path"),
    ]
    assert not any(word in q.reason for q in quarantined for word in ("secret", "Clear", "png"))
    assert len({r.dicom_id for r in records}) == 2


@pytest.mark.parametrize("write", WRITERS)
def test_missing_column_names_those_found(folder: Path, write: Writer) -> None:
    path = write([{"image": "a.png", "text": "Clear.", "patient": 1}], folder)
    with pytest.raises(BadInputError, match=r"missing column 'report'.*'image', 'text', 'patient'"):
        reader(path).read()


def test_root_is_where_relative_paths_start(folder: Path) -> None:
    (folder / "sub").mkdir()
    path = csv_of([{"image": "a.png", "report": "Clear.", "patient": 1}], folder / "sub")
    assert len(reader(path, root=str(folder)).read()[0]) == 1
    assert reader(path).read()[0] == []
    with pytest.raises(BadInputError, match=r"data\.root"):
        reader(path, root=str(folder / "none")).read()


def test_unusable_tables(folder: Path) -> None:
    with pytest.raises(BadInputError, match=r"data\.path="):
        TableReader("", "image", "report", "patient").read()
    with pytest.raises(BadInputError, match="no such file"):
        reader(folder / "none.csv").read()
    with pytest.raises(BadInputError, match=r"\.csv, \.jsonl, \.parquet"):
        reader(folder / "none.xlsx").read()
    (folder / "bad.parquet").write_bytes(b"PAR1 secret")
    with pytest.raises(BadInputError, match="Parquet") as caught:
        reader(folder / "bad.parquet").read()
    assert "secret" not in str(caught.value)
    (folder / "bad.jsonl").write_text("secret\n")
    with pytest.raises(BadInputError, match="none of the 1 rows") as caught:
        reader(folder / "bad.jsonl").read()
    assert "secret" not in str(caught.value)
    (folder / "e.csv").write_text("image,report,patient\n")
    with pytest.raises(BadInputError, match="no rows"):
        reader(folder / "e.csv").read()
    (folder / "twice.csv").write_text("image,report,report,patient\na,b,c,d\n")
    with pytest.raises(BadInputError, match="occurs 2 times"):
        reader(folder / "twice.csv").read()


@pytest.mark.parametrize("first", ["a.png,The heart of John Doe is large.,17", "a,The heart of John is large,b", "a,John,10000032"])
def test_a_headerless_table_does_not_leak_a_report(folder: Path, first: str) -> None:
    (folder / "t.csv").write_text(first + "\n")
    with pytest.raises(BadInputError, match="header row missing") as caught:
        reader(folder / "t.csv").read()
    assert "John" not in str(caught.value)


def test_jsonl_rows_that_are_no_text(folder: Path) -> None:
    good = json.dumps({"image": "a.png", "report": "Clear.", "patient": "p"})
    lines = [
        good,
        "[1]",
        "{",
        "",
        good.replace('"Clear."', "[1, 2]"),
        good.replace("Clear", "\\ud800"),
        good.replace("Clear", "NaN"),
        '{"image": "a.png"}',
    ]
    (folder / "t.jsonl").write_text("\n".join(lines))
    records, quarantined = reader(folder / "t.jsonl").read()
    assert [r.row for r in records] == [1, 6]
    assert [q.row for q in quarantined] == [2, 3, 4, 5, 7]
    for record in records:
        record.prompt.encode()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=5))
def test_any_report_text_survives_or_is_quarantined(folder: Path, reports: list[str]) -> None:
    rows: Rows = [{"image": "a.png", "report": text, "patient": f"p{i}"} for i, text in enumerate(reports)]
    records, quarantined = reader(jsonl_of(rows, folder)).read()
    assert sorted([r.row for r in records] + [q.row for q in quarantined]) == list(range(1, len(rows) + 1))
    for record in records:
        assert record.prompt == reports[record.row - 1].strip()
    for bad in quarantined:
        text, earlier = cell(reports[bad.row - 1]), [cell(text) for text in reports[: bad.row - 1]]
        assert bad.reason == "the same row as an earlier one" if text else "the prompt is empty or not text"
        assert not text or text in earlier


def test_whole_number_subjects_lose_the_float_that_parquet_gives_them(folder: Path) -> None:
    path = parquet_of(
        [{"image": "a.png", "report": "Clear.", "patient": 7}, {"image": "a.png", "report": "Clear.", "patient": None}], folder
    )
    records, quarantined = reader(path).read()
    assert [r.subject_id for r in records] == ["7"] and [q.row for q in quarantined] == [2]


@pytest.mark.parametrize("write", [csv_of, jsonl_of])
def test_gzipped_tables_read_as_the_plain_ones(folder: Path, write: Writer) -> None:
    rows: Rows = [{"image": "a.png", "report": f'Line,\n"{i}".', "patient": f"p{i}"} for i in range(5)]
    plain = write(rows, folder)
    packed = folder / f"{plain.name}.GZ"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + plain.read_bytes()))
    assert reader(packed).read() == reader(plain).read()
    assert len(reader(packed).read()[0]) == 5


def test_damaged_gzip_and_other_packed_endings(folder: Path) -> None:
    whole = gzip.compress(b"image,report,patient\n" + b"".join(os.urandom(20).hex().encode() + b",secret,p\n" for _ in range(200)))
    for content in (whole[:-9], b"secret", b"", whole[:40] + b"\0" * 20 + whole[60:]):
        (folder / "t.csv.gz").write_bytes(content)
        with pytest.raises(BadInputError) as caught:
            reader(folder / "t.csv.gz").read()
        assert "t.csv.gz" in str(caught.value) and "secret" not in str(caught.value)
    (folder / "t.tsv.gz").write_bytes(whole)
    with pytest.raises(BadInputError, match=r"\.csv\.gz, \.jsonl\.gz"):
        reader(folder / "t.tsv.gz").read()


@pytest.mark.parametrize("content", [b"0" * 5_000_000, b"image,report,patient\n" * 200_000], ids=["one line", "many lines"])
@pytest.mark.parametrize("ending", ["csv.gz", "jsonl.gz"])
def test_a_gzip_bomb_ends_early(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, ending: str) -> None:
    monkeypatch.setattr(table_module, "_MAX_SMALL", 1 << 16)
    monkeypatch.setattr(table_module, "_MAX_LINE", 1 << 16)
    (folder / f"t.{ending}").write_bytes(gzip.compress(content))
    with pytest.raises(BadInputError, match="far larger than text becomes|not valid CSV"):
        read_table(folder / f"t.{ending}", [])


@pytest.mark.parametrize("missing", ["nan", "NaN", "None", "null", "<NA>", "N/A"])
def test_words_for_a_missing_value_are_no_prompt_and_no_patient(folder: Path, missing: str) -> None:
    rows: Rows = [{"image": "a.png", "report": missing, "patient": "p"}, {"image": "a.png", "report": "Clear.", "patient": missing}]
    assert [q.row for q in reader(jsonl_of(rows, folder)).read()[1]] == [1, 2]


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_row_counts_once_and_the_first_stays(folder: Path, write: Writer) -> None:
    (folder / "b.png").touch()
    rows: Rows = [
        {"image": "a.png", "report": "Clear.", "patient": "p1"},
        {"image": "a.png", "report": " Clear. ", "patient": "p1"},
        {"image": "./a.png", "report": "Clear.", "patient": "p2"},
        {"image": "a.png", "report": "Another.", "patient": "p1"},
        {"image": "b.png", "report": "Clear.", "patient": "p1"},
    ]
    records, quarantined = reader(write(rows, folder), root=str(folder)).read()
    assert [r.row for r in records] == [1, 4, 5]
    assert {(q.row, q.reason) for q in quarantined} == {(n, "the same row as an earlier one") for n in (2, 3)}


CLIMBING = ["../secret.png", "sub/../../secret.png", "/secret.png", "../root/../secret.png", "..", "./../secret.png", "//secret.png"]


@pytest.mark.parametrize("write", WRITERS)
def test_a_path_that_leads_out_of_the_root_is_never_looked_for(tmp_path: Path, write: Writer) -> None:
    (tmp_path / "root" / "sub").mkdir(parents=True)
    for place in (tmp_path / "secret.png", tmp_path / "root" / "in.png"):
        place.touch()
    paths = [*CLIMBING, str(tmp_path / "secret.png"), str(tmp_path / "root" / "in.png"), "in.png", "sub/../in.png"]
    rows: Rows = [{"image": path, "report": f"Clear {i}.", "patient": "p"} for i, path in enumerate(paths)]
    records, quarantined = reader(write(rows, tmp_path), root=str(tmp_path / "root")).read()
    assert [q.reason for q in quarantined] == ["the image path leads out of data.root"] * (len(paths) - 2)
    assert [r.image_path for r in records] == [str(tmp_path / "root" / "in.png")] * 2


def test_dots_behind_a_link_stay_inside_the_root(tmp_path: Path) -> None:
    """The system's own reading of link/../secret.png is outside: ``..`` is the parent of where the link leads."""
    (tmp_path / "root").mkdir()
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "far" / "secret.png").touch()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "far" / "away")
    rows: Rows = [{"image": "link/../secret.png", "report": "Clear.", "patient": "p"}]
    assert (tmp_path / "root" / "link" / ".." / "secret.png").is_file()
    records, quarantined = reader(csv_of(rows, tmp_path), root=str(tmp_path / "root")).read()
    assert not records and quarantined[0].reason == "the image file is missing"


@pytest.mark.parametrize("write", [csv_of, jsonl_of])
def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(folder: Path, write: Writer) -> None:
    path = write([{"image": "a.png", "report": "Clear.", "patient": "p1"}], folder)
    plain = reader(path).read()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert reader(path).read() == plain and len(plain[0]) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
@given(st.sampled_from(["csv", "jsonl", "parquet", "csv.gz", "jsonl.gz"]), st.binary(max_size=200), st.booleans())
def test_any_bytes_are_rows_or_one_clear_error(folder: Path, ending: str, content: bytes, packed: bool) -> None:
    path = folder / f"t.{ending}"
    content = b"image,report,patient\n" + content
    path.write_bytes(gzip.compress(content) if packed and ending.endswith("gz") else content)
    try:
        records, quarantined = reader(path).read()
    except BadInputError as error:
        assert str(path) in str(error)
    else:
        assert records or quarantined


def peak_of(path: Path) -> int:
    """The most bytes in use while a table is read into files."""
    tracemalloc.start()
    try:
        records, bad = reader(path).read(Spools(path.parent / "kept"))
        assert records and not bad
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("write", WRITERS)
def test_memory_hardly_depends_on_the_number_of_rows(folder: Path, write: Writer) -> None:
    def rows(n: int) -> Rows:
        return [{"image": "a.png", "report": f"Study {i}. " + "No acute finding. " * 60, "patient": f"p{i}"} for i in range(n)]

    few, many = (peak_of(write(rows(n), folder)) for n in (2_000, 12_000))
    assert many - few < 10_000 * 200, "a report has 1,100 bytes"
