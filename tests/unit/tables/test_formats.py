"""Any table of texts through any format, and from one to another."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrguard.errors import CxrguardError
from cxrguard.tables import open_reader

Copy = Callable[..., bytes]
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from('",;\n\r \ufeff\u2028')).filter(
    lambda text: "\r" not in text.replace("\r\n", "")  # how the library reads a lone one is tested by itself
)
ROWS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=20)


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("other", "text"), *rows])
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"other": other, "text": text}) + "\n" for other, text in rows))
    else:
        pq.write_table(pa.table({"other": [r[0] for r in rows], "text": [r[1] for r in rows]}), path)


def read(ending: str, content: bytes) -> list[dict[str, object]]:
    if ending == ".csv":
        return list(csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True))
    if ending == ".jsonl":
        return [json.loads(line) for line in content.decode().split("\n")[:-1]]
    return pq.read_table(io.BytesIO(content)).to_pylist()


@pytest.mark.parametrize("source", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("target", [".csv", ".jsonl", ".parquet"])
def test_any_texts_survive(copy: Copy, source: str, target: str) -> None:
    @settings(max_examples=40, deadline=None)
    @given(ROWS)
    def check(rows: list[tuple[str, str]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"in{source}"
            write(path, rows)
            found = read(target, copy(path, f"out{target}"))
        number: type = str if target == ".csv" else int
        assert found == [
            {"other": other, "text": text, "sanitized": text.upper(), "n_edits": number(len(text)), "status": "edited"}
            for other, text in rows
        ]

    check()


def test_lines_of_a_text(tmp_path: Path, copy: Copy) -> None:
    (tmp_path / "in.txt").write_bytes("ab\r\n\r\nc\x85d\u2028e\r\n".encode())
    assert copy(tmp_path / "in.txt", "out.txt") == "AB\r\n\r\nC\x85D\u2028E\r\n".encode()
    assert copy(tmp_path / "in.txt", "out.csv", "prompt").startswith(b"prompt,sanitized,n_edits,status\nab,AB,2,edited\n")
    (tmp_path / "in.txt").write_bytes(b"")
    assert copy(tmp_path / "in.txt", "out.txt") == b""


def test_a_prompt_of_two_lines_does_not_fit_a_text(tmp_path: Path, copy: Copy) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"text": "sentinel\\nb"}\n')
    with pytest.raises(CxrguardError, match="row 2: the prompt has a line break") as caught:
        copy(tmp_path / "in.jsonl", "out.txt")
    assert "sentinel" not in str(caught.value)


def test_json_rows_in_a_csv(tmp_path: Path, copy: Copy) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a", "x": {"y": null}}\n{"x": 1.5, "text": "b"}\n{"text": "c", "z": 1}\n')
    with pytest.raises(CxrguardError, match=r"row 3 has 1 column\(s\) that row 1 has not"):
        copy(tmp_path / "in.jsonl", "out.csv")
    (tmp_path / "in.jsonl").write_text('{"text": "a", "x": {"y": null}}\n{"x": 1.5, "text": "b"}\n{"text": "c"}\n')
    assert [row["x"] for row in read(".csv", copy(tmp_path / "in.jsonl", "out.csv"))] == ['{"y": null}', "1.5", ""]


def test_two_columns_of_one_name_fit_a_csv_only(tmp_path: Path, copy: Copy) -> None:
    (tmp_path / "in.csv").write_text("x,x,text\n1,2,a\n")
    assert copy(tmp_path / "in.csv", "out.csv").endswith(b"1,2,a,A,1,edited\n")
    with pytest.raises(CxrguardError, match="two columns have the same name"):
        copy(tmp_path / "in.csv", "out.jsonl")


def test_unknown_ending(tmp_path: Path) -> None:
    with pytest.raises(CxrguardError, match=r"\.csv, \.jsonl, \.parquet, \.txt"):
        open_reader(str(tmp_path / "in.xlsx"), "text")
