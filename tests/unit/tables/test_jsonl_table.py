"""JSON lines: all but what is added survives to the byte; what is broken is told by line and never quoted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cxrguard.errors import BadInputError

Copy = Callable[..., bytes]


@pytest.mark.parametrize(
    ("given", "start"),
    [
        (b'{"a": 1e400, "n": 12345678901234567890123, "text": "ab"}', b'{"a": 1e400, "n": 12345678901234567890123, "text": "ab", '),
        (b'{"text":"ab","u":"\\ud800","deep":{"x":[1,null]} }  \r', b'{"text":"ab","u":"\\ud800","deep":{"x":[1,null]}, '),
        (b'\xef\xbb\xbf{"text": "ab"}', b'{"text": "ab", '),
    ],
)
def test_the_line_survives(tmp_path: Path, copy: Copy, given: bytes, start: bytes) -> None:
    (tmp_path / "in.jsonl").write_bytes(given + b"\n\n")
    assert copy(tmp_path / "in.jsonl", "out.jsonl") == start + b'"sanitized": "AB", "n_edits": 2, "status": "edited"}\n'


def test_null_is_an_empty_text(tmp_path: Path, copy: Copy) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": null}\n')
    assert json.loads(copy(tmp_path / "in.jsonl", "out.jsonl")) == {"text": None, "sanitized": "", "n_edits": 0, "status": "edited"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "sentinel"', "line 3 is not valid JSON"),
        ('["sentinel"]', "line 3 is JSON, but a list and no object"),
        ("17", "line 3 is JSON, but a number"),
        ("[" * 100_000, "line 3 is not valid JSON"),
        ('{"impression": "sentinel"}', r"row 2 \(line 3\): missing column 'text'\. Columns found: 'impression'"),
        ("{}", r"row 2 \(line 3\): missing column 'text'\. Columns found: none"),
        ('{"text": 17}', "row 2: column 'text' holds a number"),
        ('{"text": ["sentinel"]}', "row 2: column 'text' holds a list"),
        ('{"text": true}', "row 2: column 'text' holds true or false"),
        ('{"text": "sentinel \\ud800"}', "row 2: the text holds half a surrogate pair"),
        ('{"text": "sentinel", "sanitized": ""}', r"row 2 \(line 3\): there is a column 'sanitized' already"),
    ],
)
def test_what_is_broken_is_told_and_not_quoted(tmp_path: Path, copy: Copy, line: str, message: str) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "fine"}\n\n' + line + "\n")
    with pytest.raises(BadInputError, match=message) as caught:
        copy(tmp_path / "in.jsonl", "out.jsonl")
    assert "sentinel" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_overwrite_replaces_the_columns(tmp_path: Path, copy: Copy) -> None:
    (tmp_path / "in.jsonl").write_text('{"status": 1, "text": "ab", "u": "\\ud800"}\n')
    out = copy(tmp_path / "in.jsonl", "out.jsonl", overwrite=True)
    assert list(json.loads(out).items()) == [("text", "ab"), ("u", "\ud800"), ("sanitized", "AB"), ("n_edits", 2), ("status", "edited")]
