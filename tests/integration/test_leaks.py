"""The search for secrets finds them where the other tests count on it."""

from __future__ import annotations

import base64
import gzip
import io
import zipfile
from pathlib import Path

import pytest
from leaks import leaks

SECRET = b"consolidation of Mrs Sentinel"


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("part", content)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"before " + SECRET + b" after",
        gzip.compress(SECRET),
        zipped(gzip.compress(SECRET)),
        b'<img src="data:image/png;base64,' + base64.b64encode(SECRET) + b'">',
        b"\x1f\x8b\x00" + SECRET,
    ],
    ids=["as it is", "gzip", "gzip in zip", "page", "begins like gzip"],
)
def test_a_secret_is_found(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert leaks(tmp_path, {SECRET}) == ["file"]


@pytest.mark.parametrize("content", [b"", b"nothing", gzip.compress(b"nothing"), b"\x1f\x8b\x07 numbers", gzip.compress(b"cut off")[:-9]])
def test_no_secret_is_found(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert leaks(tmp_path, {SECRET}, "printed") == []


def test_a_secret_in_a_file_name_and_in_the_output_is_found(tmp_path: Path) -> None:
    (tmp_path / SECRET.decode()).write_bytes(b"")
    assert leaks(tmp_path, {SECRET}, SECRET.decode()) == ["output 0", "a file name"]
