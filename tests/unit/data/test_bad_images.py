"""Images that go wrong: each becomes grey as it should or is refused with a reason that names no file."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from cxrguard.data.images import image_file, in_archive, load_pixels
from cxrguard.data.prepare import load_images
from cxrguard.data.records import ReportRecord
from cxrguard.data.window import parse_window, to_grey
from cxrguard.errors import BadInputError, ImageError

GREY = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
MANY = "has too many pixels to be a chest X-ray"


def save(path: Path, image: np.ndarray | Image.Image) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path)
    return path


def reason(path: Path, **changes: object) -> str:
    with pytest.raises(ImageError) as caught:
        load_pixels(path, 16, **changes)
    assert "secret" not in str(caught.value) and str(caught.value) == caught.value.reason
    return str(caught.value)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_rgba_is_grey_and_its_transparency_ignored(tmp_path: Path) -> None:
    image = Image.fromarray(GREY).convert("RGBA")
    image.putalpha(Image.fromarray(GREY[::-1].copy()))
    assert (load_pixels(save(tmp_path / "a.png", image), 32) == GREY).all()


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_cmyk_is_grey(tmp_path: Path, ending: str) -> None:
    smooth = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))
    path = tmp_path / f"a.{ending}"
    Image.fromarray(smooth).convert("CMYK").save(path, **({"quality": 100} if ending == "jpg" else {}))
    assert np.abs(load_pixels(path, 32).astype(int) - smooth).max() <= 3


@pytest.mark.parametrize("transparent", [None, 3, bytes(range(256))])
def test_palette_is_grey(tmp_path: Path, transparent: object) -> None:
    image = Image.fromarray(GREY, "L").convert("P")
    image.putpalette([value for grey in range(255, -1, -1) for value in (grey, grey, grey)])
    image.save(tmp_path / "a.png", **({} if transparent is None else {"transparency": transparent}))
    assert (load_pixels(tmp_path / "a.png", 32) == 255 - GREY).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1)])
def test_a_single_pixel_or_line_is_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    assert "no X-ray" in reason(save(tmp_path / "secret.png", np.zeros(shape, np.uint8)))


def test_20_000_pixels_a_side_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(png(20_000, 20_000, 8, 0, b""))
    assert reason(path) == MANY
    path.write_bytes(png(20_000, 5_000, 8, 0, b""))  # Pillow alone only warns of these
    assert reason(path) == MANY
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert reason(path) == MANY


def test_20_000_pixels_wide_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.full((100, 20_000), 9, np.uint8))
    assert (load_pixels(path, 16) == 9).all()


def test_decompression_bombs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    # a small image whose data inflate to 200 MB: the decoder stops at the last row
    path.write_bytes(png(16, 16, 8, 0, (b"\0" + b"\7" * 16) * 16 + b"\0" * 200_000_000))
    assert (load_pixels(path, 16) == 7).all()
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "0" * 100_000_000, zip=True)
    Image.fromarray(GREY).save(path, pnginfo=text)
    assert reason(path) == "is truncated or damaged"


def test_empty_truncated_and_text(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.touch()
    assert reason(path) == "is not in a format that can be decoded"
    path.write_text("secret")
    assert reason(path) == "is not in a format that can be decoded"
    data = save(path, GREY).read_bytes()
    for kept in (9, 30, len(data) // 2, len(data) - 60):
        path.write_bytes(data[:kept])
        assert reason(path) in ("is truncated or damaged", "is not in a format that can be decoded")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(kind=st.sampled_from(["png", "jpg", "tif", "bmp", "gif", "dcm"]), place=st.floats(0, 1), junk=st.binary(max_size=40))
def test_any_damage_is_an_image_or_a_reason(tmp_path: Path, kind: str, place: float, junk: bytes) -> None:
    path = tmp_path / f"secret.{'png' if kind == 'dcm' else kind}"
    data = save(path, GREY).read_bytes()
    at = int(place * len(data))
    path = tmp_path / f"secret.{kind}"
    path.write_bytes(data[:at] + junk + data[at + len(junk) :])
    try:
        assert load_pixels(path, 16, "full").shape == (16, 16)
    except ImageError as error:
        assert "secret" not in str(error)


DEEP = np.linspace(0, 65535, 32 * 32).reshape(32, 32)


@pytest.mark.parametrize("kind", ["png 16", "tif 16", "tif int32", "tif float32"])
def test_a_window_maps_deep_images_linearly(tmp_path: Path, kind: str) -> None:
    ending, _, depth = kind.partition(" ")
    values = DEEP.astype({"16": np.uint16, "int32": np.int32, "float32": np.float32}[depth])
    path = save(tmp_path / f"secret.{ending}", values)
    assert "set data.window" in reason(path)
    found = load_pixels(path, 32, [1000, 5000])
    assert (found == np.rint(np.clip((values.astype(float) - 1000) / 4000, 0, 1) * 255)).all()
    assert (load_pixels(path, 32, "full") == np.rint(values.astype(float) / 65535 * 255)).all()


def test_full_is_the_range_of_the_file_and_one_value_is_black(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.tile(np.array([[500, 900]], np.uint16), (4, 2)))
    assert load_pixels(path, 4, "full").tolist() == [[0, 255, 0, 255]] * 4
    assert not load_pixels(save(tmp_path / "b.png", np.full((4, 4), 500, np.uint16)), 4, "full").any()


def test_a_window_leaves_8_bits_alone(tmp_path: Path) -> None:
    assert (load_pixels(save(tmp_path / "a.png", GREY), 32, [100, 101]) == GREY).all()


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_16_bit_colour_or_transparency_is_refused_with_a_window_too(tmp_path: Path, colour: int) -> None:
    samples = {2: 3, 4: 2, 6: 4}[colour]
    (tmp_path / "secret.png").write_bytes(png(2, 2, 16, colour, (b"\0" + b"\x12" * 4 * samples) * 2))
    for window in (None, "full"):
        assert "16-bit image with colour or transparency" in reason(tmp_path / "secret.png", window=window)


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    for value in (np.nan, np.inf):
        path = save(tmp_path / "secret.tif", np.array([[0, 1], [value, 2]], np.float32))
        assert reason(path, window="full") == "holds values that are no numbers"
        assert reason(path, window=[0, 1]) == "holds values that are no numbers"


@pytest.mark.parametrize("window", ["auto", "", [], [1], [1, 2, 3], [2, 2], [3, 2], [0, float("nan")], ["0", "9"], [0, float("inf")]])
def test_other_windows_are_refused_as_a_setting(tmp_path: Path, window: object) -> None:
    with pytest.raises(BadInputError, match=r"data\.window must be"):
        parse_window(window)
    with pytest.raises(BadInputError, match=r"data\.window must be"):
        load_images([ReportRecord("p", "s", "d", "Clear.", image_path=str(save(tmp_path / "a.png", GREY)))], 8, window)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20), st.integers(-(2**31), 2**31), st.integers(1, 2**31))
def test_windows_keep_the_order_of_values(values: list[int], low: int, width: int) -> None:
    for window in ("full", (float(low), float(low + width))):
        grey = to_grey(np.array(sorted(values), np.int64), window)
        assert (np.diff(grey.astype(int)) >= 0).all()


def test_load_images_passes_the_window_on(tmp_path: Path) -> None:
    record = ReportRecord("p", "s", "d", "Clear.", image_path=str(save(tmp_path / "a.png", DEEP.astype(np.uint16))), row=7)
    good, bad = load_images([record], 8)
    assert not good and bad[0].row == 7 and "data.window" in bad[0].reason
    good, bad = load_images([record], 8, "full")
    assert not bad and good[0][1].shape == (8, 8)


def test_an_image_inside_an_archive_is_read_by_its_place(tmp_path: Path) -> None:
    data = save(tmp_path / "a.png", GREY).read_bytes()
    shard = tmp_path / "secret 0::1.tar"
    shard.write_bytes(b"x" * 700 + data + b"y" * 9)
    path = in_archive(shard, 700, len(data))
    assert (load_pixels(path, 32) == GREY).all()
    assert image_file(path) == shard and image_file(tmp_path / "a.png") == tmp_path / "a.png"
    assert reason(in_archive(shard, 0, 50)) == "is not in a format that can be decoded"
    assert reason(in_archive(shard, 700, len(data) - 60)) == "is truncated or damaged"
    assert reason(in_archive(shard, 10**9, 50)) == "is not in a format that can be decoded"
    assert reason(in_archive(tmp_path / "secret.tar", 0, 50)) == "is missing"
