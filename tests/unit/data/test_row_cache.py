"""Arrays kept on the disk: hits, misses, what a killed, torn or meddled-with build leaves, and two at once."""

from __future__ import annotations

import os
import pickle
import signal
import stat
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cxrguard.data import array_store
from cxrguard.data.array_store import DATA, INDEX, META
from cxrguard.data.cache import Cache, StoredRows, _locked, open_cache
from cxrguard.errors import CxrguardError

NAMES = [f"secret-{i}".encode() for i in range(100)]


def row_of(i: int) -> NDArray[Any]:
    return np.arange(12, dtype=np.float32).reshape(3, 4) * 100 + i


class Maker:
    """Makes row ``i`` of item ``i`` and remembers which it was asked for."""

    def __init__(self, size: int = 7, leave_out: tuple[int, ...] = (), fail_at: int | None = None) -> None:
        self.size, self.leave_out, self.fail_at, self.made = size, leave_out, fail_at, list[int]()

    def __call__(self, items: list[int]) -> Iterator[tuple[list[int], NDArray[Any]]]:
        for start in range(0, len(items), self.size):
            some = [i for i in items[start : start + self.size] if i not in self.leave_out]
            if self.fail_at in some:
                raise RuntimeError("stop here")
            self.made += some
            yield some, np.stack([row_of(i) for i in some])


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", b"k" * 32)


@pytest.fixture(autouse=True)
def made(cache: Cache) -> None:
    cache.directory.mkdir(mode=0o700)


def fill(cache: Cache, maker: Maker, names: list[bytes] = NAMES, component: str = "a" * 32) -> StoredRows:
    return cache.rows("latents", component, names, maker)


def folder_of(cache: Cache) -> Path:
    return cache.directory / f"latents-{'a' * 16}"


def right(rows: StoredRows, items: list[int] | None = None) -> bool:
    return torch.equal(rows[:], torch.from_numpy(np.stack([row_of(i) for i in items or range(100)])))


def test_made_once_and_found_again(cache: Cache) -> None:
    maker = Maker()
    rows = fill(cache, maker)
    assert right(rows) and rows.shape == (100, 3, 4) and maker.made == list(range(100))
    assert right(fill(cache, maker)) and len(maker.made) == 100
    wanted = [5, 99, 5, 0]  # another order, a repeated one
    again = fill(cache, maker, [NAMES[i] for i in wanted])
    assert len(maker.made) == 100 and right(again, wanted) and again.rows[0] == again.rows[2]


def test_only_what_is_missing_is_made_in_order_and_equal_content_once(cache: Cache) -> None:
    fill(cache, Maker(), NAMES[:30])
    maker = Maker()
    names = [*NAMES[:50], *NAMES[:60]]
    assert right(fill(cache, maker, names), [*range(50), *range(50), *range(100, 110)])
    assert maker.made == [*range(30, 50), *range(100, 110)]


def test_another_component_secret_or_kind_is_another_cache(cache: Cache) -> None:
    fill(cache, Maker())
    for other in (
        lambda m: fill(cache, m, component="b" * 32),
        lambda m: fill(Cache(cache.directory, b"other key of the site"), m),
        lambda m: cache.rows("text", "a" * 32, NAMES, m),
    ):
        maker = Maker()
        other(maker)
        assert len(maker.made) == 100


def test_a_component_of_the_same_folder_name_is_not_mistaken(cache: Cache) -> None:
    fill(cache, Maker(), component="a" * 32)
    maker = Maker()
    with pytest.warns(UserWarning, match="not ours"):
        assert right(fill(cache, maker, component="a" * 31 + "b"))
    assert len(maker.made) == 100


def test_an_item_that_cannot_be_made_has_no_row_and_is_tried_again(cache: Cache) -> None:
    rows = fill(cache, Maker(leave_out=(3, 50)))
    assert np.flatnonzero(rows.rows < 0).tolist() == [3, 50]
    assert rows.view(3) is None and np.array_equal(rows.view(4), row_of(4))  # type: ignore[arg-type]
    maker = Maker()
    assert right(fill(cache, maker)) and maker.made == [3, 50]


def test_nothing_asked_for(cache: Cache) -> None:
    rows = fill(cache, Maker(), [])
    assert len(rows) == 0 and list(rows.split(3)) == []


def test_rows_are_read_only_and_copies_are_not(cache: Cache) -> None:
    rows = fill(cache, Maker())
    for view in (rows.data, rows.view(3)):
        assert view is not None and type(view) is np.ndarray
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 0
    copy = rows[3]
    copy.zero_()
    assert right(rows)


def test_files_are_private_and_hold_no_name(cache: Cache) -> None:
    old = os.umask(0)
    try:
        with open_cache(cache.directory / "new" / "deep") as made:
            fill(made, Maker())
    finally:
        os.umask(old)
    folder = next((cache.directory / "new" / "deep").iterdir())
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE((cache.directory / "new" / "deep").stat().st_mode) == 0o700
    files = sorted(folder.iterdir())
    assert [f.name for f in files] == [DATA, INDEX, "lock", META]
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}
    assert not any(b"secret" in f.read_bytes() for f in files)


def test_a_failed_build_keeps_what_it_made(cache: Cache) -> None:
    with pytest.raises(RuntimeError):
        fill(cache, Maker(fail_at=45))
    maker = Maker()
    assert right(fill(cache, maker)) and maker.made == list(range(42, 100))


SCRIPT = """
    import sys, time
    import numpy as np
    from pathlib import Path
    from cxrguard.data import array_store
    from cxrguard.data.cache import Cache
    array_store._COMMIT_SECONDS = {commit}
    def produce(items):
        for start in range(0, len(items), 7):
            some = items[start : start + 7]
            print("made", *some, flush=True)
            time.sleep({sleep})
            yield some, np.stack([np.arange(12, dtype=np.float32).reshape(3, 4) * 100 + i for i in some])
    names = [f"secret-{{i}}".encode() for i in range(100)]
    rows = Cache(Path(sys.argv[1]), b"k" * 32).rows("latents", "a" * 32, names, produce)
    assert np.array_equal(rows[:].numpy(), np.stack([np.arange(12, dtype=np.float32).reshape(3, 4) * 100 + i for i in range(100)]))
    print("right", flush=True)
"""


def start(cache: Cache, sleep: float, commit: float = 0.0) -> subprocess.Popen[str]:
    code = textwrap.dedent(SCRIPT.format(sleep=sleep, commit=commit))
    return subprocess.Popen([sys.executable, "-c", code, str(cache.directory)], stdout=subprocess.PIPE, text=True)


def made_by(output: str) -> list[int]:
    return [int(i) for line in output.splitlines() if line.startswith("made") for i in line.split()[1:]]


def test_a_killed_build_goes_on_where_it_was(cache: Cache) -> None:
    process = start(cache, 0.05)
    assert process.stdout is not None
    heard = ""
    while len(made_by(heard)) < 50:
        heard += process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    maker = Maker()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a killed build is nothing to warn of
        assert right(fill(cache, maker))
    assert maker.made == list(range(maker.made[0], 100)) and 35 <= maker.made[0] <= 56


def test_two_processes_build_together_and_make_every_row_once(cache: Cache) -> None:
    both = [start(cache, 0.02) for _ in range(2)]
    outputs = [p.communicate(timeout=60)[0] for p in both]
    assert all(p.returncode == 0 and out.strip().endswith("right") for p, out in zip(both, outputs, strict=True))
    assert sorted(made_by("".join(outputs))) == list(range(100))


def test_the_one_that_waits_says_so(cache: Cache) -> None:
    with _locked(folder_of(cache)):
        waiting = start(cache, 0.0)
        assert waiting.stdout is not None and "waiting for another run" in waiting.stdout.readline()
    assert waiting.communicate(timeout=60)[0].strip().endswith("right")


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


ROW = 3 * 4 * 4


@pytest.mark.parametrize(
    ("meddle", "again"),
    [
        (lambda f: flip(f / DATA, 30 * ROW + 5), [30]),
        (lambda f: (f / DATA).write_bytes((f / DATA).read_bytes()[: 90 * ROW + 3]), list(range(90, 100))),
        (lambda f: (f / DATA).unlink(), list(range(100))),
        (lambda f: flip(f / INDEX, 60 * 32 + 20), [60]),  # its digest
        (lambda f: (f / META).write_text("{"), list(range(100))),
        (lambda f: (f / META).write_text('{"format": 9, "shape": [3, 4]}'), list(range(100))),
        (lambda f: (f / META).write_text('{"shape": "yes"}'), list(range(100))),
        (lambda f: (f / META).unlink(), list(range(100))),
        (lambda f: (f / DATA).write_bytes(bytes(100 * ROW)), list(range(1, 100)) or None),
    ],
)
def test_what_is_damaged_or_foreign_is_made_again_with_one_message(cache: Cache, meddle: Any, again: list[int]) -> None:
    before = fill(cache, Maker())
    kept = before[:].clone()
    meddle(folder_of(cache))
    maker = Maker()
    with pytest.warns(UserWarning, match="made anew|made again") as caught:
        rows = fill(cache, maker)
    assert len(caught) == 1 and "secret" not in str(caught[0].message)
    assert right(rows) and set(again) <= set(maker.made) and len(maker.made) <= len(again) + 1
    maker.made.clear()
    assert right(fill(cache, maker)) and maker.made == []
    assert torch.equal(kept, torch.from_numpy(np.stack([row_of(i) for i in range(100)])))


def test_a_torn_index_and_unnamed_rows_are_passed_over_silently(cache: Cache) -> None:
    fill(cache, Maker())
    folder = folder_of(cache)
    (folder / INDEX).write_bytes((folder / INDEX).read_bytes()[: 80 * 32 + 9])
    with (folder / DATA).open("ab") as file:
        file.write(b"half a row")
    maker = Maker()
    assert right(fill(cache, maker)) and maker.made == list(range(80, 100))


def test_a_key_that_was_changed_is_only_a_miss(cache: Cache) -> None:
    fill(cache, Maker())
    flip(folder_of(cache) / INDEX, 60 * 32 + 2)
    maker = Maker()
    assert right(fill(cache, maker)) and maker.made == [60]


def test_rebuilding_does_not_pull_the_rows_from_under_a_reader(cache: Cache) -> None:
    reader = fill(cache, Maker())
    (folder_of(cache) / META).write_text("{")
    with pytest.warns(UserWarning):
        fill(cache, Maker(), NAMES[:3])
    assert right(reader)


def test_a_folder_that_cannot_be_used_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CxrguardError, match=r"cache\.dir"), open_cache(tmp_path / "file" / "cache"):
        pass
    (tmp_path / f"latents-{'a' * 16}").write_text("")
    with pytest.raises(CxrguardError, match=r"cache\.dir"):
        fill(Cache(tmp_path, b"k"), Maker())


def test_a_full_disk_is_said_before_it_is_full_and_after(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_store.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100})())
    maker = Maker()
    with pytest.raises(CxrguardError, match=r"GB are needed.*cache\.dir"):
        fill(cache, maker)
    assert len(maker.made) == 7
    monkeypatch.undo()
    real, full = os.pwrite, [False]

    def pwrite(descriptor: int, content: Any, offset: int) -> int:
        if offset >= 42 * ROW or full[0]:
            full[0] = True
            raise OSError(28, "No space left on device")
        return real(descriptor, content, offset)

    monkeypatch.setattr(array_store.os, "pwrite", pwrite)
    with pytest.raises(CxrguardError, match=r"is full.*cache\.dir"):
        fill(cache, Maker())
    monkeypatch.undo()
    assert right(fill(cache, Maker()))


def test_a_cache_that_nobody_keeps_leaves_nothing_and_stays_usable() -> None:
    with open_cache(None) as temporary:
        rows = fill(temporary, Maker())
        assert stat.S_IMODE(temporary.directory.stat().st_mode) == 0o700
    assert not temporary.directory.exists() and right(rows)


def test_rows_go_to_a_worker(cache: Cache) -> None:
    rows = fill(cache, Maker())
    assert right(pickle.loads(pickle.dumps(rows)))


def test_names_may_be_arrays(cache: Cache) -> None:
    images = [np.full((4, 4), i, np.uint8) for i in range(20)]
    maker = Maker()
    assert right(cache.rows("latents", "c" * 32, images, maker), list(range(20)))
    assert right(cache.rows("latents", "c" * 32, [bytes(x) for x in images], maker), list(range(20))) and len(maker.made) == 20


def test_many_rows_are_found_fast(cache: Cache) -> None:
    names = [str(i).encode() for i in range(20_000)]

    def produce(items: list[int]) -> Iterator[tuple[list[int], NDArray[Any]]]:
        yield items, np.array(items, np.float32)[:, None]

    cache.rows("text", "a" * 32, names, produce)
    start = time.perf_counter()
    rows = cache.rows("text", "a" * 32, names[::-1], produce)
    assert rows[:3][:, 0].tolist() == [19_999, 19_998, 19_997]
    assert time.perf_counter() - start < 5
