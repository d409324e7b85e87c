"""The window that maps an image of more than 8 bits to grey. Which values matter is a clinical choice, so the user makes it.

``data.window`` is ``null`` (such images are refused), ``[low, high]`` in the image's own units (what lies outside becomes black or
white), or ``full``: from the image's own lowest value to its highest. Images of 8 bits are left as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrguard.errors import BadInputError, ImageError

Window = tuple[float, float] | Literal["full"] | None


def parse_window(window: Sequence[float] | str | None) -> Window:
    """The setting as it is used.

    Raises:
        BadInputError: it is something else.

    """
    if window is None:
        return None
    if window == "full":
        return "full"
    if not isinstance(window, str) and len(window) == 2 and all(isinstance(x, Real) and math.isfinite(x) for x in window):
        low, high = float(window[0]), float(window[1])
        if low < high:
            return low, high
    raise BadInputError("data.window must be null, full, or [low, high] with low < high, in the units of the images.")


def to_grey(values: NDArray[np.generic], window: tuple[float, float] | Literal["full"]) -> NDArray[np.uint8]:
    """Map ``values`` linearly to 0..255, rounded; ``low`` becomes 0, ``high`` 255.

    An image of one value only is black under ``full``.

    Raises:
        ImageError: a value is no number.

    """
    wide = np.dtype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    scaled = values.astype(wide)
    low, high = (float(scaled.min()), float(scaled.max())) if window == "full" else window
    if not (math.isfinite(low) and math.isfinite(high) and np.isfinite(scaled).all()):
        raise ImageError("holds values that are no numbers")
    if low == high:
        return np.zeros(values.shape, np.uint8)
    scaled -= low
    scaled *= 255 / (high - low)
    return np.rint(np.clip(scaled, 0, 255, out=scaled)).astype(np.uint8)
