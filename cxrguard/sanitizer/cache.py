"""Sanitized prompts kept on disk by content hash, so that a sweep's arms and the next run need not do them again."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

from cxrguard.sanitizer.settings import SanitizerSettings

Edits = list[dict[str, str | int]]
T = TypeVar("T")

_NAME = "sanitized_prompts.sqlite"
_TABLE = "CREATE TABLE IF NOT EXISTS prompts (key BLOB PRIMARY KEY, value BLOB NOT NULL, digest BLOB NOT NULL) WITHOUT ROWID"
_KEYS_A_QUERY = 500
# What SQLite says of a file that is broken or not ours. A full disk or a read-only folder is neither: the file stays.
_BROKEN = ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_ERROR", "SQLITE_IOERR_SHORT_READ", "SQLITE_MISMATCH", "SQLITE_CONSTRAINT")


@dataclass(frozen=True)
class Outcome:
    """What became of one text.

    Attributes:
        text: The sanitized text.
        status: ``unchanged``, ``edited``, ``emptied`` or ``refused``.
        edits: {rule, action, start, end}, never text.

    """

    text: str
    status: str
    edits: Edits


@lru_cache
def code_version() -> str:
    """A hash of all that results come from besides the settings: the package's sources, its conventions, and Faker's version."""
    package = Path(__file__).parent
    found = hashlib.sha256()
    sources = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    for path in sorted([*sources, package.parent / "randomness.py"]):
        found.update(f"{path.relative_to(package.parent)}\0{path.stat().st_size}\0".encode())
        found.update(path.read_bytes())
    with suppress(PackageNotFoundError):
        found.update(version("faker").encode())  # the surrogates' names are its data
    return found.hexdigest()


def fingerprint(settings: SanitizerSettings) -> bytes:
    """A hash of everything but the text that decides what becomes of a text: settings, patterns, code."""
    # What happens to the refused is the caller's policy and changes no result.
    chosen = {name: value for name, value in asdict(settings).items() if name != "on_refused"}
    found = hashlib.sha256(json.dumps([code_version(), chosen], sort_keys=True).encode())
    for name in (*settings.conventions, settings.cues):
        if Path(name).is_file():  # a user's own patterns or cues may change under the same name
            found.update(hashlib.sha256(Path(name).read_bytes()).digest())
    return found.digest()


class OutcomeCache:
    """Outcomes in an SQLite file, mode 0600, in a folder of mode 0700: it holds report text.

    Every access takes the folder's lock and opens the file anew, so processes may share it. It is a cache: a broken file is
    begun anew with a warning, a folder that cannot be used is a warning, and in both cases the caller just computes.

    Args:
        directory: Made if missing.
        print_of_all_else: See :func:`fingerprint`.

    """

    def __init__(self, directory: str | Path, print_of_all_else: bytes) -> None:
        self._path = Path(directory).expanduser() / _NAME
        self._print = print_of_all_else

    def get(self, texts: Sequence[str]) -> dict[str, Outcome]:
        """The outcomes known of ``texts``."""
        if not texts:
            return {}
        by_key = {self._key(text): text for text in texts}
        rows = self._access(lambda db: _select(db, list(by_key))) or []
        good = [(key, value) for key, value, digest in rows if isinstance(value, bytes) and _digest(key, value) == digest]
        if len(good) < len(rows):
            self._warn(f"{len(rows) - len(good)} entries are damaged and are computed again")
        return {by_key[key]: Outcome(*json.loads(value)) for key, value in good}

    def put(self, outcomes: Mapping[str, Outcome]) -> None:
        """Adds outcomes, by text."""
        rows = []
        for text, outcome in outcomes.items():
            key, value = self._key(text), json.dumps([outcome.text, outcome.status, outcome.edits]).encode()
            rows.append((key, value, _digest(key, value)))
        if rows:
            self._access(lambda db: db.executemany("INSERT OR REPLACE INTO prompts VALUES (?, ?, ?)", rows))

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(self._print + text.encode("utf-8", "surrogatepass")).digest()

    def _access(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Runs ``work`` in one transaction; None where the file cannot be used."""
        try:
            with self._locked():
                try:
                    return self._transaction(work)
                except sqlite3.Error as error:
                    if not _name(error).startswith(_BROKEN):
                        raise
                    self._warn("the file is damaged; it is begun anew")
                    self._remove()
                    return self._transaction(work)
        except (OSError, sqlite3.Error) as error:
            # Of the error only its kind: nothing that the library says may carry text.
            self._warn(f"it cannot be used ({_name(error)}); prompts are computed without it")
            return None

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        # Made here with its mode: SQLite itself would go by the umask. Its journal takes over the mode.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        self._path.chmod(0o600)
        with closing(sqlite3.connect(self._path, timeout=60)) as db, db:
            db.execute(_TABLE)
            return work(db)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite's own locks do not cover that one process removes a broken file while another opens it.
        descriptor = os.open(self._path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _remove(self) -> None:
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    def _warn(self, what: str) -> None:
        warnings.warn(f"The sanitizer's cache {self._path.name} in {self._path.parent}: {what}.", stacklevel=5)


def _name(error: Exception) -> str:
    return str(getattr(error, "sqlite_errorname", type(error).__name__))


def _select(db: sqlite3.Connection, keys: list[bytes]) -> list[tuple[bytes, bytes, bytes]]:
    rows: list[tuple[bytes, bytes, bytes]] = []
    for start in range(0, len(keys), _KEYS_A_QUERY):
        some = keys[start : start + _KEYS_A_QUERY]
        rows += db.execute(f"SELECT key, value, digest FROM prompts WHERE key IN ({','.join('?' * len(some))})", some)
    return rows


def _digest(key: bytes, value: bytes) -> bytes:
    # SQLite does not notice a flipped bit inside a text, and a flipped "no" would be a changed fact.
    return hashlib.sha256(key + value).digest()[:16]
