"""The key is the site's own, secret, and outside of the run."""

from __future__ import annotations

import hashlib
import hmac
import stat
from pathlib import Path

import pytest

from cxrguard.errors import CxrguardError
from cxrguard.pseudonym import load_key, pseudonym


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "deep" / "key"
    monkeypatch.setenv("CXRGUARD_KEY_FILE", str(path))
    return path


def test_made_once_with_mode_0600(key_file: Path) -> None:
    key = load_key()
    assert len(key) == 32 and key_file.read_bytes() == key == load_key()
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


def test_two_sites_have_two_keys(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_key()
    monkeypatch.setenv("CXRGUARD_KEY_FILE", str(key_file) + "2")
    assert load_key() != first


def test_the_home_directory_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXRGUARD_KEY_FILE", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert load_key() == (tmp_path / ".config" / "cxrguard" / "key").read_bytes()


def test_pseudonyms_are_hmac_and_need_the_key() -> None:
    name = pseudonym(b"k" * 32, "a prompt ___")
    assert name == hmac.new(b"k" * 32, b"a prompt ___", hashlib.sha256).hexdigest()[:12]
    others = {pseudonym(b"l" * 32, "a prompt ___"), pseudonym(b"k" * 32, "a prompt"), hashlib.sha256(b"a prompt ___").hexdigest()[:12]}
    assert name not in others and len(name) == 12


@pytest.mark.parametrize("content", [b"", b"short"])
def test_a_key_that_is_none_is_refused(key_file: Path, content: bytes) -> None:
    """With an empty key anyone could check a guess."""
    key_file.parent.mkdir()
    key_file.write_bytes(content)
    with pytest.raises(CxrguardError, match="too short.*remove it"):
        load_key()


def test_a_place_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "key"):
        monkeypatch.setenv("CXRGUARD_KEY_FILE", str(path))
        with pytest.raises(CxrguardError, match="CXRGUARD_KEY_FILE"):
            load_key()


def test_lost_race(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process made the key after this one looked: its key counts."""
    key_file.parent.mkdir()
    key_file.write_bytes(b"x" * 32)
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert load_key() == b"x" * 32
