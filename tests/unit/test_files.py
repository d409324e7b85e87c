"""Private, atomic writing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from cxrguard.errors import CxrguardError
from cxrguard.files import read_json, write_json_private, write_private


@pytest.mark.parametrize("content", ["früh\r\n", b"\x00\xff"])
def test_content_and_mode(tmp_path: Path, content: str | bytes) -> None:
    old = os.umask(0)
    try:
        path = write_private(tmp_path / "deep" / "file", content)
    finally:
        os.umask(old)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert path.stat().st_mode & 0o777 == 0o600


def test_replaces_an_open_file_and_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_private(tmp_path / "file", "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_private(path, "new")
    assert [item.name for item in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"


def test_json_keeps_order_and_turns_nan_into_null(tmp_path: Path) -> None:
    value = {"b": float("nan"), "a": [np.float64("inf"), np.int64(3), np.array([1.5, np.nan])], "p": Path("x"), "t": (True, None)}
    path = write_json_private(tmp_path / "x.json", value)
    assert list(json.loads(path.read_text())) == ["b", "a", "p", "t"]
    assert json.loads(path.read_text()) == {"b": None, "a": [None, 3, [1.5, None]], "p": "x", "t": [True, None]}
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 200_000])
def test_broken_json_is_told_without_its_text(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(CxrguardError, match=r"x\.json in .* is not JSON"):
        read_json(tmp_path / "x.json")
    with pytest.raises(CxrguardError, match="Cannot read"):
        read_json(tmp_path / "absent.json")
