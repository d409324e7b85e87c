"""Images: what is read, what is refused, and that no message names a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrguard.data.images import ImageError, load_pixels
from cxrguard.errors import CxrguardError


def save(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


def test_shrinking_is_the_mean_of_each_block(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    pixels = load_pixels(save(tmp_path / "a.png", image), 16)
    expected = image.astype(float).reshape(16, 4, 16, 4).mean((1, 3))
    assert pixels.dtype == np.uint8 and pixels.shape == (16, 16)
    assert np.abs(pixels - expected).max() <= 1


def test_same_size_is_unchanged_and_never_flipped(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (32, 32), dtype=np.uint8)
    path = save(tmp_path / "a.png", image)
    for _ in range(20):
        assert (load_pixels(path, 32) == image).all()


def test_the_centre_stays_the_centre_of_an_oblong_image(tmp_path: Path) -> None:
    image = np.zeros((40, 80), np.uint8)
    image[19:21, 38:42] = 255
    pixels = load_pixels(save(tmp_path / "a.png", image), 10).astype(float)
    y, x = np.indices(pixels.shape)
    assert (pixels * y).sum() / pixels.sum() == pytest.approx(4.5)
    assert (pixels * x).sum() / pixels.sum() == pytest.approx(4.5)


def test_enlarging_gives_the_size_asked_for(tmp_path: Path) -> None:
    assert load_pixels(save(tmp_path / "a.png", np.full((5, 9), 7, np.uint8)), 32).tolist() == [[7] * 32] * 32


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "1"])
def test_other_8_bit_modes_become_grey(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((16, 16), 255, np.uint8)).convert(mode).save(path)
    assert (load_pixels(path, 8) == 255).all()


def test_colour_uses_luminance(tmp_path: Path) -> None:
    green = np.zeros((8, 8, 3), np.uint8)
    green[..., 1] = 200
    assert load_pixels(save(tmp_path / "a.png", green), 8)[0, 0] == pytest.approx(0.587 * 200, abs=1)


def check_refused(path: Path, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        load_pixels(path, 16)
    assert isinstance(caught.value, CxrguardError)
    assert "secret" not in str(caught.value) and str(caught.value) == caught.value.reason
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_grey_is_refused_not_clipped(tmp_path: Path, ending: str) -> None:
    path = save(tmp_path / f"secret.{ending}", np.full((16, 16), 4000, np.uint16))
    check_refused(path, "is a 16-bit image; convert to 8-bit with a window you chose")


def test_32_bit_is_refused(tmp_path: Path) -> None:
    check_refused(save(tmp_path / "secret.tif", np.full((16, 16), 4000, np.int32)), "window you chose")
    check_refused(save(tmp_path / "secret.tif", np.full((16, 16), 0.5, np.float32)), "window you chose")


def test_16_bit_colour_png_is_refused_although_pillow_calls_it_rgb(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    path = tmp_path / "secret.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress((b"\0" + b"\x12" * 12) * 2)) + chunk(b"IEND", b"")
    )
    assert Image.open(path).mode == "RGB"
    check_refused(path, "16-bit")


def test_missing_directory_empty_and_text(tmp_path: Path) -> None:
    check_refused(tmp_path / "secret.png", "is missing")
    (tmp_path / "secret_dir.png").mkdir()
    check_refused(tmp_path / "secret_dir.png", "is a directory")
    (tmp_path / "secret_empty.png").touch()
    check_refused(tmp_path / "secret_empty.png", "cannot? be decoded|can be decoded")
    (tmp_path / "secret_text.png").write_text("no image")
    check_refused(tmp_path / "secret_text.png", "can be decoded")


@pytest.mark.parametrize("kind", ["png", "jpg"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, kind: str, kept: float) -> None:
    path = save(tmp_path / f"secret.{kind}", np.random.default_rng(2).integers(0, 256, (64, 64), dtype=np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    check_refused(path, "truncated or damaged|can be decoded")


def test_a_flipped_bit_in_the_data_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "secret.png", np.random.default_rng(3).integers(0, 256, (64, 64), dtype=np.uint8))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    check_refused(path, "truncated or damaged")


def test_size_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size"):
        load_pixels(tmp_path / "a.png", 0)
