"""CSV: dialects survive, what is broken is told by row and line and never quoted."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from cxrguard.errors import BadInputError
from cxrguard.tables import open_reader

Copy = Callable[..., bytes]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (b"id,text\n1,ab\n", b"id,text,sanitized,n_edits,status\n1,ab,AB,2,edited\n"),
        (b"id;text\r\n1;a,b\r\n", b"id;text;sanitized;n_edits;status\r\n1;a,b;A,B;3;edited\r\n"),
        (b"text\tid\nab\t1\n", b"text\tid\tsanitized\tn_edits\tstatus\nab\t1\tAB\t2\tedited\n"),
        (
            b'\xef\xbb\xbf"text","id"\n"a ""b""\nc",1\n',
            b'\xef\xbb\xbftext,id,sanitized,n_edits,status\n"a ""b""\nc",1,"A ""B""\nC",7,edited\n',
        ),
        (b'text,id\n"a\rb",1\n\n,2\n', b'text,id,sanitized,n_edits,status\n"a\rb",1,"A\rB",3,edited\n,2,,0,edited\n'),
        (b"id,text\n", b"id,text,sanitized,n_edits,status\n"),
        (b"id,text\n1,no end of line", b"id,text,sanitized,n_edits,status\n1,no end of line,NO END OF LINE,14,edited\n"),
        ("text\n\u2028é\x85\n".encode(), "text,sanitized,n_edits,status\n\u2028é\x85,\u2028É\x85,3,edited\n".encode()),
    ],
)
def test_dialect_and_bytes_survive(tmp_path: Path, copy: Copy, given: bytes, expected: bytes) -> None:
    (tmp_path / "in.csv").write_bytes(given)
    assert copy(tmp_path / "in.csv", "out.csv") == expected


def test_a_field_beyond_the_library_s_limit(tmp_path: Path, copy: Copy) -> None:
    (tmp_path / "in.csv").write_text("text\n" + "a" * 300_000 + "\n")
    assert b"A" * 300_000 in copy(tmp_path / "in.csv", "out.csv")


def test_gzip(tmp_path: Path, copy: Copy) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b"text\nab\n"))
    assert copy(tmp_path / "in.csv.gz", "out.csv").endswith(b"ab,AB,2,edited\n")
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b"text\nab\n" * 1000)[:-12])
    with pytest.raises(BadInputError, match="cannot be read after line"):
        copy(tmp_path / "in.csv.gz", "out.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"id,impression\n1,sentinel\n", r"missing column 'text'\. Columns found: 'id', 'impression'\."),
        (b"1,sentinel was 47 years old yesterday\n", r"2 columns found, some .*not shown"),
        (b"text,text\na,b\n", "occurs 2 times"),
        (b"text,status\na,b\n", "a column 'status' already.*--overwrite"),
        (b"id,text\n1,a\n2,sentinel,b\n", r"row 2 \(ends on line 3\) has 3 fields, the header has 2"),
        (b"id,text\n1,a\n2\n", r"row 2 \(ends on line 3\) has 1 fields"),
        (b'id,text\n1,a\n2,"sentinel\n3,b\n4,c\n', "row that starts on line 3 .*unclosed quote"),
        (b'id,text\n1,"sent \\"inel\\" x"\n', "starts on line 2"),
        (b"id,text\n1,a\n2,sentinel\xe9\n", r"line 3 is not UTF-8.*iconv"),
        ("id,text\n1,a\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_what_is_broken_is_told_and_not_quoted(tmp_path: Path, copy: Copy, content: bytes, message: str) -> None:
    (tmp_path / "in.csv").write_bytes(content)
    with pytest.raises(BadInputError, match=message) as caught:
        copy(tmp_path / "in.csv", "out.csv")
    assert str(tmp_path / "in.csv") in str(caught.value)
    assert "sentinel" not in str(caught.value)
    # The chain is printed with a traceback, and the library's errors quote what they choke on.
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_overwrite_replaces_the_columns(tmp_path: Path, copy: Copy) -> None:
    (tmp_path / "in.csv").write_bytes(b"status,text,sanitized\nold,ab,old\n")
    assert copy(tmp_path / "in.csv", "out.csv", overwrite=True) == b"text,sanitized,n_edits,status\nab,AB,2,edited\n"


def test_batches_are_bounded_by_rows_and_by_size(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("text\n" + "a\n" * 1201)
    batches = list(open_reader(str(path), "text"))
    assert [(b.first_row, len(b.texts)) for b in batches] == [(1, 500), (501, 500), (1001, 201)]
    path.write_text("text\n" + ("a" * 600_000 + "\n") * 4)
    assert [len(b.texts) for b in open_reader(str(path), "text")] == [2, 2]


def test_a_batch_does_not_show_its_rows(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\nsentinel\n")
    (batch,) = open_reader(str(tmp_path / "in.csv"), "text")
    assert batch.texts == ["sentinel"]
    assert "sentinel" not in repr(batch)
