"""The table reader on the three endings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxrguard.data.table import TableReader
from cxrguard.errors import BadInputError

Rows = list[dict[str, Any]]


def csv_of(rows: Rows, path: Path) -> Path:
    pd.DataFrame(rows).to_csv(path / "t.csv", index=False)
    return path / "t.csv"


def jsonl_of(rows: Rows, path: Path) -> Path:
    (path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path / "t.jsonl"


def parquet_of(rows: Rows, path: Path) -> Path:
    pd.DataFrame(rows).to_parquet(path / "t.parquet")
    return path / "t.parquet"


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
        assert not reports[bad.row - 1].strip()


def test_whole_number_subjects_lose_the_float_that_parquet_gives_them(folder: Path) -> None:
    path = parquet_of(
        [{"image": "a.png", "report": "Clear.", "patient": 7}, {"image": "a.png", "report": "Clear.", "patient": None}], folder
    )
    records, quarantined = reader(path).read()
    assert [r.subject_id for r in records] == ["7"] and [q.row for q in quarantined] == [2]
