"""Images are decoded once and handed on as views of a file, as long as the file they came from is the same."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrguard.data import pixels as module
from cxrguard.data.cache import Cache, open_cache
from cxrguard.data.images import in_archive, load_pixels
from cxrguard.data.pixels import Pixels, read_pixels
from cxrguard.errors import ImageError


class Loader:
    """Reads files and remembers which; knows how many it had in hand at once."""

    def __init__(self, size: int = 8, slow: float = 0.0) -> None:
        self.size, self.slow, self.read, self.now, self.most = size, slow, list[str](), 0, 0
        self.lock = threading.Lock()

    def __call__(self, path: str) -> Pixels:
        with self.lock:
            self.read.append(Path(path).name)
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.slow)
        try:
            return load_pixels(path, self.size)
        finally:
            with self.lock:
                self.now -= 1


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    (tmp_path / "cache").mkdir(mode=0o700)
    return Cache(tmp_path / "cache", b"k" * 32)


def write(path: Path, value: int, size: int = 16) -> str:
    Image.fromarray(np.full((size, size), value, np.uint8)).save(path)
    return str(path)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    return [write(tmp_path / f"patient{i}.png", i) for i in range(20)]


def read(cache: Cache, paths: list[str], loader: Loader, **settings: object) -> list[Pixels | ImageError]:
    return read_pixels(cache, paths, loader, {"size": loader.size, **settings})


def values(found: list[Pixels | ImageError]) -> list[int]:
    assert all(isinstance(x, np.ndarray) and x.shape == (8, 8) and x.dtype == np.uint8 for x in found)
    return [int(x[3, 3]) for x in found if isinstance(x, np.ndarray)]


def test_decoded_once_in_order_and_read_only(cache: Cache, paths: list[str]) -> None:
    loader = Loader()
    assert values(read(cache, paths, loader)) == list(range(20)) and len(loader.read) == 20
    found = read(cache, paths[::-1], loader)
    assert values(found) == list(range(20))[::-1] and len(loader.read) == 20
    with pytest.raises(ValueError, match="read-only"):
        found[0][0, 0] = 1  # type: ignore[index]
    assert type(found[0]) is np.ndarray


def test_a_file_that_was_rewritten_is_read_again_and_no_other(cache: Cache, paths: list[str]) -> None:
    read(cache, paths, Loader())
    before = os.stat(paths[7])
    write(Path(paths[7]), 200)
    os.utime(paths[7], ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    loader = Loader()
    assert values(read(cache, paths, loader)) == [*range(7), 200, *range(8, 20)] and loader.read == ["patient7.png"]


def test_another_size_or_way_to_decode_is_another_cache(cache: Cache, paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    read(cache, paths, Loader())
    for settings in ({"window": 3}, {}):
        loader = Loader()
        read(cache, paths, loader, **settings)
        assert len(loader.read) == (20 if settings else 0)
    large = Loader(size=16)
    assert read(cache, paths, large)[3].shape == (16, 16) and len(large.read) == 20  # type: ignore[union-attr]
    monkeypatch.setattr(module, "_version", lambda library: "another release")
    loader = Loader()
    read(cache, paths, loader)
    assert len(loader.read) == 20


def test_what_cannot_be_used_is_told_each_time_and_not_kept(cache: Cache, paths: list[str]) -> None:
    broken = [*paths[:2], paths[2], "/nowhere/patient.png", paths[4], paths[2], "a\0b"]
    Path(paths[2]).write_bytes(b"no image")
    for _ in range(2):
        found = read(cache, broken, Loader())
        assert [isinstance(x, ImageError) for x in found] == [False, False, True, True, False, True, True]
        assert "missing" in str(found[3]) and "decoded" in str(found[2]) and not any("patient" in str(x) for x in found)
    write(Path(paths[2]), 99)
    assert values(read(cache, [paths[2]], Loader())) == [99]


def test_two_records_of_one_file_share_it(cache: Cache, paths: list[str], tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(paths[5])
    loader = Loader()
    assert values(read(cache, [paths[5], paths[6], paths[5], str(tmp_path / "link.png")], loader)) == [5, 6, 5, 5]
    assert sorted(loader.read) == ["patient5.png", "patient6.png"]


def test_as_few_are_in_memory_as_are_decoded(cache: Cache, paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WORKERS", 2)
    monkeypatch.setattr(module, "_IN_FLIGHT", 5)
    loader, started = Loader(slow=0.01), list[int]()

    def consume() -> None:
        for item, _ in module._decode(range(20), lambda i: loader(paths[i])):
            started.append(len(loader.read) - item)

    consume()
    assert loader.most == 2 and max(started) <= 6


def test_no_name_is_in_the_cache(cache: Cache, paths: list[str], tmp_path: Path) -> None:
    read(cache, paths, Loader())
    files = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert files and not any(b"patient" in p.read_bytes() for p in files)


def test_a_cache_that_nobody_keeps(paths: list[str]) -> None:
    with open_cache(None) as temporary:
        found = read(temporary, paths, Loader())
    assert values(found) == list(range(20)) and not temporary.directory.exists()


def test_images_of_one_archive_are_told_apart_and_read_again_with_it(cache: Cache, paths: list[str], tmp_path: Path) -> None:
    contents = [Path(path).read_bytes() for path in paths[:3]]
    shard, starts = tmp_path / "shard.tar", [0, len(contents[0]), len(contents[0]) + len(contents[1])]
    shard.write_bytes(b"".join(contents))
    inside = [in_archive(shard, start, len(content)) for start, content in zip(starts, contents, strict=True)]
    loader = Loader()
    for _ in range(2):
        assert values(read(cache, inside, loader)) == [0, 1, 2] and len(loader.read) == 3
    os.utime(shard, ns=(0, 0))
    assert values(read(cache, inside, loader)) == [0, 1, 2] and len(loader.read) == 6


def test_nothing_to_read(cache: Cache) -> None:
    assert read(cache, [], Loader()) == []
