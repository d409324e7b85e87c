"""Parquet: the schema stays, with types and metadata; other formats' rows become columns of one type."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxrguard.errors import BadInputError
from cxrguard.tables import open_reader

Copy = Callable[..., bytes]


def read(content: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(content))


def test_schema_metadata_and_values_survive(tmp_path: Path, copy: Copy) -> None:
    schema = pa.schema(
        [
            pa.field("when", pa.timestamp("us", tz="UTC"), metadata={"k": "v"}),
            pa.field("tags", pa.list_(pa.int16())),
            pa.field("text", pa.large_string()),
            pa.field("score", pa.decimal128(9, 3)),
        ],
        metadata={"origin": "here"},
    )
    table = pa.table({"when": [0, None], "tags": [[1, 2], None], "text": ["ab", None], "score": [1, 2]}, schema=schema)
    pq.write_table(table, tmp_path / "in.parquet")
    out = read(copy(tmp_path / "in.parquet", "out.parquet"))
    assert out.select(schema.names).equals(table)
    assert out.schema.metadata[b"origin"] == b"here"
    assert out.schema.field("when").metadata[b"k"] == b"v"
    assert out.drop_columns(schema.names).to_pydict() == {"sanitized": ["AB", ""], "n_edits": [2, 0], "status": ["edited"] * 2}


def test_a_pandas_frame_with_categories_and_index(tmp_path: Path, copy: Copy) -> None:
    frame = pd.DataFrame({"text": pd.Categorical(["ab", "c", "ab"])}, index=pd.Index([5, 7, 9], name="study"))
    frame.to_parquet(tmp_path / "in.parquet")
    out = pd.read_parquet(io.BytesIO(copy(tmp_path / "in.parquet", "out.parquet")))
    assert list(out.index) == [5, 7, 9]
    assert list(out["sanitized"]) == ["AB", "C", "AB"]
    pd.testing.assert_series_equal(out["text"], frame["text"])


def test_many_rows_and_none(tmp_path: Path, copy: Copy) -> None:
    for n in (0, 1234):
        pq.write_table(pa.table({"text": pa.array(["ab"] * n, pa.string())}), tmp_path / "in.parquet")
        out = read(copy(tmp_path / "in.parquet", "out.parquet"))
        assert out.column("sanitized").to_pylist() == ["AB"] * n
        assert out.schema.names == ["text", "sanitized", "n_edits", "status"]
    assert [len(b.texts) for b in open_reader(str(tmp_path / "in.parquet"), "text")] == [500, 500, 234]


def test_json_rows_become_typed_columns(tmp_path: Path, copy: Copy) -> None:
    lines = ['{"id": 1, "text": "ab", "x": null}', '{"id": 2, "text": "c", "x": null}', '{"text": "d", "id": 3}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    out = read(copy(tmp_path / "in.jsonl", "out.parquet"))
    assert out.schema.field("id").type == pa.int64()
    assert out.to_pydict()["id"] == [1, 2, 3]
    (tmp_path / "in.jsonl").write_text('{"id": 1, "text": "ab"}\n' * 500 + '{"id": "sentinel", "text": "ab"}\n')
    with pytest.raises(BadInputError, match="rows 501 to 501 have columns or types") as caught:
        copy(tmp_path / "in.jsonl", "out.parquet")
    assert "sentinel" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"text": [1, 2]}), "row 1: column 'text' is of type int64"),
        (pa.table({"impression": ["a"]}), "missing column 'text'. Columns found: 'impression'"),
        (pa.table({"text": ["a"], "n_edits": [1]}), "'n_edits' already"),
    ],
)
def test_unusable_tables(tmp_path: Path, copy: Copy, table: pa.Table, message: str) -> None:
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(BadInputError, match=message):
        copy(tmp_path / "in.parquet", "out.parquet")


def test_no_parquet(tmp_path: Path, copy: Copy) -> None:
    (tmp_path / "in.parquet").write_bytes(b"PAR1 sentinel PAR1")
    with pytest.raises(BadInputError, match="not a readable Parquet file"):
        copy(tmp_path / "in.parquet", "out.parquet")
