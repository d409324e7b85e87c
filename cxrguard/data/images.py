"""Reads one image file as grey pixels. No augmentation lives here: a flipped chest X-ray shows another patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cxrguard.errors import CxrguardError

_DEEP_MODES = ("I", "F")


class ImageError(CxrguardError):
    """One image cannot be used."""

    @property
    def reason(self) -> str:
        """Why; fits after "the image " and never holds a file name."""
        return str(self)


def load_pixels(path: Path, size: int) -> NDArray[np.uint8]:
    """Read ``path`` as grey uint8 ``[size, size]``.

    The whole image is resized (no crop, no padding), so its centre stays the centre; area averaging where it shrinks.

    Args:
        path: an 8-bit image file; colour is converted to grey.
        size: pixels a side.

    Raises:
        ImageError: missing, unreadable, truncated, or deeper than 8 bits.

    """
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    image = _decode(path)
    shrinks = image.width >= size and image.height >= size
    # BOX is exact area averaging; enlarging with it would only repeat pixels.
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(image.resize((size, size), method), dtype=np.uint8)


def _decode(path: Path) -> Image.Image:
    """Decode to mode L. Every error is raised ``from None``: Pillow's own messages hold the file name."""
    try:
        with Image.open(path) as image:
            _refuse_deep(image)
            return image.convert("L")
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
    except Image.DecompressionBombError:
        raise ImageError("has too many pixels to be a chest X-ray") from None
    except Exception:  # decoders raise anything (zlib, struct, SyntaxError, ...) on damaged data
        raise ImageError("is truncated or damaged") from None


def _refuse_deep(image: Image.Image) -> None:
    """Refuse more than 8 bits: which grey values matter is a clinical choice, and clipping would hide it."""
    # Pillow opens a 16-bit colour file as 8-bit RGB and says so only in the decoder's raw mode.
    raw_modes = " ".join(str(tile[3]) for tile in getattr(image, "tile", []))
    if image.mode.startswith("I;16") or ";16" in raw_modes:
        raise ImageError("is a 16-bit image; convert to 8-bit with a window you chose")
    if image.mode in _DEEP_MODES:
        raise ImageError("is a 16-bit or 32-bit image; convert to 8-bit with a window you chose")
