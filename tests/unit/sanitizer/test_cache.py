"""Results on disk: found again only for the same text, settings and code, private, and no harm when broken."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import warnings
from contextlib import closing
from pathlib import Path

import pytest

from cxrguard.sanitizer import cache
from cxrguard.sanitizer.cache import Outcome, OutcomeCache, fingerprint
from cxrguard.sanitizer.sanitizer import PromptSanitizer
from cxrguard.sanitizer.settings import SanitizerSettings

TEXTS = {
    f"Text {i} ___.": Outcome(f"Text {i}, „größer“ \ud83d.", "edited", [{"rule": "r", "action": "a", "start": i, "end": 9}])
    for i in range(1200)
}
PROMPTS = ["The heart is stable since ___.", "Clear.", "No ___."]


def store(directory: Path, name: bytes = b"settings") -> OutcomeCache:
    return OutcomeCache(directory, name)


def file(directory: Path) -> Path:
    return next(directory.glob("*.sqlite"))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that a PromptSanitizer computes, as it does."""
    seen: list[str] = []
    real = PromptSanitizer._compute

    def record(self: PromptSanitizer, prompts: list[str]) -> dict[str, Outcome]:
        seen.extend(prompts)
        return real(self, prompts)

    monkeypatch.setattr(PromptSanitizer, "_compute", record)
    return seen


def test_what_was_put_is_found_and_nothing_else(tmp_path: Path) -> None:
    store(tmp_path).put(TEXTS)
    assert store(tmp_path).get([*TEXTS, "Text 1 ___", "other"]) == TEXTS
    assert store(tmp_path, b"other settings").get(list(TEXTS)) == {}
    assert store(tmp_path / "empty").get(["Text 1 ___."]) == {}


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    directory, before = tmp_path / "a" / "cache", os.umask(0)
    try:
        store(directory).put(TEXTS)
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    file(directory).chmod(0o644)
    store(directory).get(["x"])
    assert stat.S_IMODE(file(directory).stat().st_mode) == 0o600


def test_a_journal_is_private_too(tmp_path: Path) -> None:
    modes = []

    def look(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO prompts VALUES (x'00', x'00', x'00')")
        modes.extend(stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("*-journal"))

    before = os.umask(0)
    try:
        store(tmp_path)._access(look)
    finally:
        os.umask(before)
    assert modes == [0o600]


def test_the_key_holds_settings_own_files_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cues = tmp_path / "cues.txt"
    cues.write_text("one")
    settings = [
        SanitizerSettings(),
        SanitizerSettings(("open_i",)),
        SanitizerSettings(action="strip"),
        SanitizerSettings(cues="canonicalize"),
        SanitizerSettings(cues=str(cues)),
        SanitizerSettings(priors="drop"),
        SanitizerSettings(complete=False),
        SanitizerSettings(seed=1),
    ]
    keys = [fingerprint(one) for one in settings]
    assert len(set(keys)) == len(settings)
    assert fingerprint(SanitizerSettings(on_refused="raise")) == keys[0]
    cues.write_text("two")
    assert fingerprint(settings[4]) != keys[4]
    monkeypatch.setattr(cache, "code_version", lambda: "another")
    assert fingerprint(settings[0]) != keys[0]


def test_the_code_version_reads_sources_and_conventions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "sanitizer"
    (package / "conventions").mkdir(parents=True)
    (tmp_path / "randomness.py").write_text("")
    monkeypatch.setattr(cache, "__file__", str(package / "cache.py"))
    versions = []
    for name in ("rules.py", "conventions/own.yaml", "rules.py"):
        (package / name).write_text(f"{len(versions)}")
        versions.append(cache.code_version.__wrapped__())
    assert len(set(versions)) == 3


@pytest.mark.parametrize("damage", ["not sqlite", "cut", "other table", "zeroed"])
def test_a_broken_file_is_begun_anew_with_a_warning(tmp_path: Path, damage: str) -> None:
    store(tmp_path).put(TEXTS)
    path = file(tmp_path)
    whole = path.read_bytes()
    if damage == "not sqlite":
        path.write_bytes(b"Secretname " * 500)
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2 + 100])
    elif damage == "zeroed":
        path.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
    else:
        path.unlink()
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("CREATE TABLE prompts (something)")
    with pytest.warns(UserWarning, match="begun anew") as caught:
        found = store(tmp_path).get(list(TEXTS))
    assert found == {} and not any("Secretname" in str(w.message) for w in caught)
    store(tmp_path).put(TEXTS)
    assert store(tmp_path).get(list(TEXTS)) == TEXTS


def test_a_flipped_bit_is_not_believed(tmp_path: Path) -> None:
    store(tmp_path).put(TEXTS)
    raw = file(tmp_path).read_bytes()
    at = raw.index(b'"Text 700,') + 2
    file(tmp_path).write_bytes(raw[:at] + b"\xff" + raw[at + 1 :])
    with pytest.warns(UserWarning, match="1 entries are damaged"):
        found = store(tmp_path).get(list(TEXTS))
    assert found == {text: outcome for text, outcome in TEXTS.items() if text != "Text 700 ___."}


@pytest.mark.parametrize("place", ["under a file", "a folder of its name"])
def test_a_folder_that_cannot_be_used_is_a_warning(tmp_path: Path, place: str) -> None:
    directory = tmp_path / "cache"
    if place == "under a file":
        directory.write_text("")
    else:
        (directory / "sanitized_prompts.sqlite").mkdir(parents=True)
    with pytest.warns(UserWarning, match="cannot be used"):
        result = PromptSanitizer(["mimic_cxr"], cache_dir=directory).sanitize(PROMPTS)
    assert result.prompts == PromptSanitizer(["mimic_cxr"]).sanitize(PROMPTS).prompts


def test_a_full_disk_does_not_delete_what_is_there(tmp_path: Path) -> None:
    store(tmp_path).put(TEXTS)

    def too_much(db: sqlite3.Connection) -> None:
        db.execute("PRAGMA max_page_count = 1")
        db.execute("INSERT INTO prompts VALUES (x'00', zeroblob(1000000), x'00')")

    with pytest.warns(UserWarning, match="SQLITE_FULL"):
        store(tmp_path)._access(too_much)
    assert store(tmp_path).get(list(TEXTS)) == TEXTS


def _work(directory: Path, start: int) -> None:
    warnings.simplefilter("error")
    texts = list(TEXTS)
    for i in range(start, start + 300, 20):
        store(directory).put({text: TEXTS[text] for text in texts[i : i + 20]})
        assert store(directory).get(texts[i : i + 20]) == {text: TEXTS[text] for text in texts[i : i + 20]}


@pytest.mark.parametrize("broken", [False, True])
def test_processes_share_it(tmp_path: Path, broken: bool) -> None:
    if broken:
        (tmp_path / "sanitized_prompts.sqlite").write_bytes(b"no database" * 100)
        with pytest.warns(UserWarning, match="begun anew"):
            store(tmp_path).get(["x"])
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work, args=(tmp_path, start)) for start in (0, 200, 400)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(store(tmp_path).get(list(TEXTS))) == 700


def test_the_next_object_computes_nothing(tmp_path: Path, computed: list[str]) -> None:
    first = PromptSanitizer(["mimic_cxr"], cache_dir=tmp_path).sanitize(PROMPTS)
    assert computed == [PROMPTS[0], PROMPTS[2]]
    again = PromptSanitizer(["mimic_cxr"], cache_dir=str(tmp_path), on_refused="raise").sanitize(PROMPTS[::-1])
    assert len(computed) == 2
    assert (again.prompts, again.statuses, again.edits) == (first.prompts[::-1], first.statuses[::-1], first.edits[::-1])
    assert again.counts == first.counts
    PromptSanitizer(["mimic_cxr"], "drop_sentence", cache_dir=tmp_path).sanitize(PROMPTS)
    assert len(computed) == 4


def test_off_without_a_folder(tmp_path: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        PromptSanitizer(["mimic_cxr"]).sanitize(PROMPTS)
    assert len(computed) == 4 and list(tmp_path.iterdir()) == []


def test_an_ended_run_keeps_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrguard.sanitizer.sanitizer._CHUNK", 1)
    real, calls = PromptSanitizer._compute, []

    def end_at_the_second(self: PromptSanitizer, prompts: list[str]) -> dict[str, Outcome]:
        calls.append(prompts)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, prompts)

    monkeypatch.setattr(PromptSanitizer, "_compute", end_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        PromptSanitizer(["mimic_cxr"], cache_dir=tmp_path).sanitize(PROMPTS)
    PromptSanitizer(["mimic_cxr"], cache_dir=tmp_path).sanitize(PROMPTS)
    assert [p for call in calls for p in call] == [PROMPTS[0], PROMPTS[2], PROMPTS[2]]
