"""Reads the pixels of a DICOM file with pydicom, which is an extra: ``pip install cxrguard[dicom]``.

Only what describes the pixels is parsed: the patient's name, ids and dates never become objects, so no message can hold them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrguard.data.window import Window, to_grey
from cxrguard.errors import ImageError

MAX_PIXELS = 89_478_485  # as Pillow's for other files; the largest detectors have 20 million
_DEFLATED = "1.2.840.10008.1.2.1.99"
_TAGS = [
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PixelData",
]
_GREY = ("MONOCHROME1", "MONOCHROME2")


def read_dicom(path: Path, window: Window) -> NDArray[np.uint8]:
    """The image as grey ``[H, W]``, dark where little was absorbed: MONOCHROME1 is inverted.

    Values are rescaled (RescaleSlope, RescaleIntercept), then windowed: by ``window`` if it is given, in rescaled units; else by the
    file's first WindowCenter and WindowWidth; else from its lowest value to its highest. Lookup tables are
    not applied, and a SIGMOID window is taken as a linear one.

    Args:
        path: the file.
        window: see :mod:`cxrguard.data.window`.

    Raises:
        ImageError: pydicom is not there, or the file is no single grey image that it can decode.
        Exception: whatever pydicom raises on damaged data.

    """
    try:
        from pydicom import dcmread
        from pydicom.errors import InvalidDicomError
        from pydicom.filereader import read_file_meta_info
    except ImportError:
        raise ImageError("is a DICOM file, which needs pydicom: pip install 'cxrguard[dicom]'") from None
    try:
        # looked at first, as the whole file would be inflated, however large it becomes
        if read_file_meta_info(path).get("TransferSyntaxUID") == _DEFLATED:
            raise ImageError("is a deflated DICOM file, which is not read; convert it, e.g. with dcmconv")
        data = dcmread(path, specific_tags=_TAGS)
    except InvalidDicomError:
        raise ImageError("is not in a format that can be decoded") from None
    _check(data)
    values, own = _rescaled(data)
    grey = to_grey(values, window or own)
    return 255 - grey if data.PhotometricInterpretation == "MONOCHROME1" else grey


def _check(data: Any) -> None:
    """Raise ImageError unless the data set is one grey image of a size and packing that can be decoded."""
    if "PixelData" not in data:
        raise ImageError("is a DICOM file without pixels")
    if int(data.get("NumberOfFrames") or 1) != 1 or int(data.get("SamplesPerPixel") or 1) != 1:
        raise ImageError("is a DICOM file with colour or several frames; a chest X-ray is one grey image")
    if data.PhotometricInterpretation not in _GREY:
        raise ImageError("is a DICOM file that is not MONOCHROME1 or MONOCHROME2")
    if int(data.Rows) * int(data.Columns) > MAX_PIXELS:
        raise ImageError("has too many pixels to be a chest X-ray")
    syntax = data.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not _can_decode(syntax):
        raise ImageError("is a DICOM file packed in a way that needs another decoder: pip install 'pydicom[all]'")


def _can_decode(syntax: Any) -> bool:
    from pydicom.pixels import get_decoder

    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _rescaled(data: Any) -> tuple[NDArray[Any], Any]:
    """The values in the file's own units, and the window that the file asks for.

    DICOM PS3.3 C.11.2.1.2: LINEAR spans ``width - 1`` values around ``centre - 0.5``, LINEAR_EXACT ``width`` around ``centre``.
    """
    values: NDArray[Any] = data.pixel_array
    slope, intercept = (_first(data, name, default) for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)))
    if (slope, intercept) != (1, 0):
        values = values.astype(np.float64) * slope + intercept
    centre, width = (_first(data, name, None) for name in ("WindowCenter", "WindowWidth"))
    exact = str(data.get("VOILUTFunction") or "") == "LINEAR_EXACT"
    if not exact and centre is not None and width is not None:
        centre, width = centre - 0.5, width - 1
    if centre is None or width is None or not width > 0:
        return values, "full"
    return values, (centre - width / 2, centre + width / 2)


def _first(data: Any, name: str, default: Any) -> Any:
    """The tag's number, the first one of several, or ``default`` where it is absent or empty."""
    value = data.get(name)
    value = value[0] if hasattr(value, "__getitem__") and len(value) else value
    return default if value is None or value == "" else float(value)
