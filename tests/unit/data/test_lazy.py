"""What is not in memory is the same as what was: sequences, files of no name, the index of images, prompts some at a time."""

from __future__ import annotations

import errno
import os
import resource
import tempfile
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

from cxrguard.data import sanitized as in_blocks
from cxrguard.data.image_index import ImageIndex
from cxrguard.data.lazy import Joined, Mapped, Selected
from cxrguard.data.records import ReportRecord
from cxrguard.data.spool import Spool, Spools
from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.sanitizer import PromptSanitizer


def records(n: int = 9) -> list[ReportRecord]:
    prompts = ["Compared to ___, clear. ", "Small \udcff effusion.", "Ünïcode — 心."]
    return [ReportRecord(f"p{i}", f"s{i}", f"d{i}", f"{prompts[i % 3]}{i}", ("Edema",) * (i % 2), row=i + 1) for i in range(n)]


def test_lazy_sequences_are_like_lists() -> None:
    plain = list(range(20))
    doubled, some = Mapped(plain, lambda x: 2 * x), Selected(plain, [3, 0, 19, 3])
    assert doubled == [2 * x for x in plain] and doubled != plain and doubled != [2 * x for x in plain][:-1] and doubled != "text"
    assert list(some) == [3, 0, 19, 3] and some[-1] == 3 and some[1:3] == [0, 19] and doubled[::-7] == [38, 24, 10]
    joined = Joined(some, [], doubled, [7])
    assert list(joined) == [*some, *doubled, 7] and len(joined) == 25 and joined[4] == 0 and joined[-1] == 7 and joined[-2] == 38
    assert not Joined([], ()) and list(Selected(plain, [])) == []
    for index in (25, -26):
        with pytest.raises(IndexError):
            joined[index]


def test_a_spool_holds_what_was_put_in_and_shows_none_of_it(tmp_path: Path) -> None:
    kept = Spools(tmp_path / "cache")(iter(records()))
    assert kept == records() and kept[4] == records()[4] and kept[-3:] == records()[-3:]
    assert "clear" not in repr(kept) and not list((tmp_path / "cache").iterdir())
    assert list(Spool([])) == [] and list(Spool([None, {"a": 1}])) == [None, {"a": 1}]


def test_pixels_in_memory_survive_a_spool() -> None:
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    found = Spool([ReportRecord("p", "s", "d", "Clear.", pixels=image)])[0].pixels
    assert found is not None and np.array_equal(found, image) and found.dtype == np.uint8


def test_a_fork_and_its_parent_read_the_same_spool_at_once() -> None:
    kept = Spool(records(500))
    child = os.fork()
    if child == 0:
        os._exit(0 if all(kept == records(500) for _ in range(3)) else 1)
    same = all(kept == records(500) for _ in range(3))
    assert same and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_full_disk_is_told_without_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Full:
        def write(self, content: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            """Nothing to close."""

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(CxrguardError, match="is full") as caught:
        Spool(records(), tmp_path)
    assert "clear" not in str(caught.value)


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CxrguardError, match=r"cache\.dir"):
        Spools(tmp_path / "file" / "cache")(records())


def test_images_by_id() -> None:
    ids = [f"patient-{i}" for i in range(300)]
    images = [np.full((2, 2), i % 256, np.uint8) for i in range(300)]
    index = ImageIndex(ids, images)
    assert len(index) == 300 and list(index) == ids and all(index[name] is image for name, image in zip(ids, images, strict=True))
    for unknown in ("patient-300", "", "zzz"):
        with pytest.raises(KeyError) as caught:
            index[unknown]
        assert caught.value.args == ()
    assert len(ImageIndex([], [])) == 0 and "x" not in ImageIndex([], [])


def test_prompts_some_at_a_time_are_sanitized_and_counted_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    some, sanitizer = [r for r in records(40) if "\udcff" not in r.prompt], PromptSanitizer(["mimic_cxr"])
    whole = sanitizer.sanitize([r.prompt for r in some])
    monkeypatch.setattr(in_blocks, "_AT_ONCE", 7)
    counts: dict[str, object] = {}
    found = list(in_blocks.sanitized(some, sanitizer, counts))
    assert found == list(zip(whole.prompts, whole.statuses, strict=True))
    assert counts == whole.counts and list(counts) == list(whole.counts) and whole.counts["edited"] == 14


def test_what_a_kept_record_takes_in_memory() -> None:
    """A prompt of 2 kB each: 40 MB as a list."""

    def made(i: int) -> ReportRecord:
        return ReportRecord(f"p{i}", "s", f"d{i}", f"{i} " * 400)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kept = Mapped(Spool(made(i) for i in range(20_000)), attrgetter("prompt"))
    assert sum(map(len, kept)) > 4e7
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8_000  # kB
