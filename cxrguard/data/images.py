"""Reads one image as grey pixels. No augmentation lives here: a flipped chest X-ray shows another patient.

An image is a file (``.dcm`` is read as DICOM), or ``shard.tar::offset+size``: that many bytes of an uncompressed archive, which
:mod:`cxrguard.data.webdataset` writes down so that a load is one seek.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cxrguard.data.dicom import MAX_PIXELS, read_dicom
from cxrguard.data.window import Window, parse_window, to_grey
from cxrguard.errors import ImageError

_DEEP_MODES = ("I", "F")
_CHOOSE = "convert to 8-bit with a window you chose, or set data.window"
_TOO_LARGE = "has too many pixels to be a chest X-ray"
_IN_ARCHIVE = re.compile(r"(.+\.tar)::(\d{1,18})\+(\d{1,12})", re.DOTALL)


def in_archive(shard: Path, offset: int, size: int) -> str:
    """The image path of ``size`` bytes at ``offset`` of ``shard``, an uncompressed ``.tar``."""
    return f"{shard}::{offset}+{size}"


def image_file(path: str | Path) -> Path:
    """The file on disk that holds the image: the path itself, or the archive."""
    match = _IN_ARCHIVE.fullmatch(str(path))
    return Path(match[1] if match else path)


def load_pixels(path: str | Path, size: int, window: Sequence[float] | str | None = None) -> NDArray[np.uint8]:
    """Read ``path`` as grey uint8 ``[size, size]``.

    The whole image is resized (no crop, no padding), so its centre stays the centre; area averaging where it shrinks.

    Args:
        path: see the module; colour of 8 bits is converted to grey, transparency is ignored.
        size: pixels a side.
        window: how more than 8 bits become grey; see :mod:`cxrguard.data.window`.

    Raises:
        ImageError: missing, unreadable, truncated, too large or too small, or deeper than 8 bits without a window.
        BadInputError: ``window`` is none.

    """
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    image = _decode(path, parse_window(window))
    if min(image.size) < 2:
        raise ImageError("has one row or one column of pixels, which is no X-ray")
    shrinks = image.width >= size and image.height >= size
    # BOX is exact area averaging; enlarging with it would only repeat pixels.
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(image.resize((size, size), method), dtype=np.uint8)


def _decode(path: str | Path, window: Window) -> Image.Image:
    """Decode to mode L. Every error is raised ``from None``: Pillow's own messages hold the file name."""
    try:
        if str(path).lower().endswith(".dcm"):
            return Image.fromarray(read_dicom(Path(path), window))
        with Image.open(_open(path)) as image:
            if image.width * image.height > MAX_PIXELS:  # below twice as many Pillow only warns
                raise ImageError(_TOO_LARGE)
            return _grey(image, window)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("is missing") from None
    except IsADirectoryError:
        raise ImageError("is a directory, not a file") from None
    except PermissionError:
        raise ImageError("cannot be read: permission denied") from None
    except UnidentifiedImageError:
        raise ImageError("is not in a format that can be decoded") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(_TOO_LARGE) from None
    except Exception:  # decoders raise anything (zlib, struct, SyntaxError, ...) on damaged data
        raise ImageError("is truncated or damaged") from None


def _open(path: str | Path) -> Path | BytesIO:
    match = _IN_ARCHIVE.fullmatch(str(path))
    if match is None:
        return Path(path)
    with open(match[1], "rb") as shard:
        shard.seek(int(match[2]))
        return BytesIO(shard.read(int(match[3])))


def _grey(image: Image.Image, window: Window) -> Image.Image:
    """Mode L. More than 8 bits need a window: which grey values matter is a clinical choice, and clipping would hide it."""
    # Pillow opens a 16-bit colour file as 8-bit RGB and says so only in the decoder's raw mode.
    raw_modes = " ".join(str(tile[3]) for tile in getattr(image, "tile", []))
    deep = image.mode.startswith("I;16") or image.mode in _DEEP_MODES
    if not deep and ";16" in raw_modes:
        raise ImageError("is a 16-bit image with colour or transparency; convert it to grey")
    if not deep:
        image.load()
        image.info.pop("transparency", None)  # for a palette's, Pillow would print a warning
        return image.convert("L")
    if window is None:
        depth = "16-bit" if image.mode.startswith("I;16") else "16-bit or 32-bit"
        raise ImageError(f"is a {depth} image; {_CHOOSE}")
    return Image.fromarray(to_grey(np.asarray(image), window))
