"""Keyed pseudonyms: the same prompt has the same name within a site, and no one without the key can check a guess."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cxrguard.errors import CxrguardError

MIN_BYTES = 16


def load_key() -> bytes:
    """The site's key: ``$CXRGUARD_KEY_FILE``, else ``~/.config/cxrguard/key``; made with mode 0600 on first use.

    It lies outside every run directory, so that a shared audit cannot be matched against known prompts.

    Raises:
        CxrguardError: the file cannot be read or made, or holds too little to be a key.

    """
    path = Path(os.environ.get("CXRGUARD_KEY_FILE", Path.home() / ".config" / "cxrguard" / "key"))
    try:
        key = _read_or_make(path)
    except OSError as error:
        raise CxrguardError(f"{path}: the pseudonym key cannot be read or made ({error.strerror}); set CXRGUARD_KEY_FILE") from None
    if len(key) < MIN_BYTES:
        raise CxrguardError(f"{path}: the pseudonym key is too short ({len(key)} bytes, {MIN_BYTES} needed); remove it, a new one is made")
    return key


def _read_or_make(path: Path) -> bytes:
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
        return path.read_bytes()
    except FileExistsError:
        return path.read_bytes()


def pseudonym(key: bytes, text: str) -> str:
    """Twelve hex digits of HMAC-SHA256."""
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:12]


def secret_seed(*names: str | int) -> int:
    """A seed in [0, 2**63) as a function of the site's key and ``names``: the same at the site, and no one else can draw the same."""
    text = "\x1f".join(map(str, names))
    return int.from_bytes(hmac.new(load_key(), text.encode(), hashlib.sha256).digest()[:8], "big") >> 1
