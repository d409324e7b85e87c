"""DICOM files made by pydicom: what the pixels become, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
    generate_uid,
)

from cxrguard.data.images import load_pixels  # noqa: E402
from cxrguard.errors import ImageError  # noqa: E402

VALUES = np.arange(16 * 16, dtype=np.uint16).reshape(16, 16) * 16  # 0 .. 4080, 12 bits


def dataset(values: np.ndarray = VALUES, syntax: Any = ExplicitVRLittleEndian, **tags: object) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", generate_uid()
    meta.TransferSyntaxUID = syntax
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID = "Secret^Name", "secret-id"
    data.Rows, data.Columns = values.shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = values.dtype.itemsize * 8
    data.BitsStored, data.HighBit = data.BitsAllocated, data.BitsAllocated - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    data.PixelData = values.tobytes()
    data["PixelData"].VR = "OW" if data.BitsAllocated == 16 else "OB"
    for name, value in tags.items():
        setattr(data, name, value)
    return data


def write(path: Path, data: FileDataset) -> Path:
    data.save_as(path, enforce_file_format=True)
    return path


def expected(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255)


def reason(path: Path, window: object = None) -> str:
    with pytest.raises(ImageError) as caught:
        load_pixels(path, 16, window)
    assert "ecret" not in str(caught.value) and (caught.value.__suppress_context__ or caught.value.__context__ is None)
    return str(caught.value)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("ending", ["dcm", "DCM"])
def test_without_a_window_the_range_of_the_pixels(tmp_path: Path, syntax: Any, ending: str) -> None:
    path = write(tmp_path / f"a.{ending}", dataset(syntax=syntax))
    assert (load_pixels(path, 16) == expected(VALUES, 0, 4080)).all()


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", dataset(PhotometricInterpretation="MONOCHROME1"))
    assert (load_pixels(path, 16) == 255 - expected(VALUES, 0, 4080)).all()
    assert (load_pixels(path, 16, [1000, 2000]) == 255 - expected(VALUES, 1000, 2000)).all()


@pytest.mark.parametrize("several", [False, True])
def test_the_files_window_is_the_standards(tmp_path: Path, several: bool) -> None:
    centre, width = ([2000, 50], [1001, 20]) if several else (2000, 1001)
    path = write(tmp_path / "a.dcm", dataset(WindowCenter=centre, WindowWidth=width))
    assert (load_pixels(path, 16) == expected(VALUES, 1499.5, 2499.5)).all()
    path = write(tmp_path / "b.dcm", dataset(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT"))
    assert (load_pixels(path, 16) == expected(VALUES, 1500, 2500)).all()


def test_pydicoms_own_windowing_agrees(tmp_path: Path) -> None:
    data = dataset(WindowCenter=2000, WindowWidth=1001, RescaleSlope=2, RescaleIntercept=-100)
    own = pydicom.pixels.apply_voi_lut(pydicom.pixels.apply_modality_lut(data.pixel_array, data), data)
    scaled = (own - own.min()) / (own.max() - own.min()) * 255
    assert np.abs(load_pixels(write(tmp_path / "a.dcm", data), 16) - scaled).max() <= 0.51


def test_slope_and_intercept_come_before_any_window(tmp_path: Path) -> None:
    data = dataset(RescaleSlope=0.5, RescaleIntercept=-1000)
    path = write(tmp_path / "a.dcm", data)
    assert (load_pixels(path, 16, [-500, 500]) == expected(VALUES * 0.5 - 1000, -500, 500)).all()
    assert (load_pixels(path, 16) == expected(VALUES, 0, 4080)).all()
    path = write(tmp_path / "b.dcm", dataset(RescaleSlope=-1, RescaleIntercept=4080))
    assert (load_pixels(path, 16) == 255 - expected(VALUES, 0, 4080)).all()


def test_the_users_window_wins_over_the_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", dataset(WindowCenter=2000, WindowWidth=1001))
    assert (load_pixels(path, 16, [0, 100]) == expected(VALUES, 0, 100)).all()
    assert (load_pixels(path, 16, "full") == expected(VALUES, 0, 4080)).all()


def test_an_empty_or_senseless_window_counts_as_none(tmp_path: Path) -> None:
    for tags in ({"WindowCenter": None, "WindowWidth": None}, {"WindowCenter": 5, "WindowWidth": 1}, {"WindowCenter": 5}):
        path = write(tmp_path / "a.dcm", dataset(**tags))
        assert (load_pixels(path, 16) == expected(VALUES, 0, 4080)).all()


def test_signed_values_8_bits_and_lossless_packing(tmp_path: Path) -> None:
    signed = VALUES.astype(np.int16) - 2000
    assert (load_pixels(write(tmp_path / "a.dcm", dataset(signed)), 16) == expected(signed, -2000, 2080)).all()
    eight = (VALUES // 16).astype(np.uint8)
    assert (load_pixels(write(tmp_path / "b.dcm", dataset(eight)), 16) == eight).all()
    packed = dataset()
    packed.compress(RLELossless)
    assert (load_pixels(write(tmp_path / "c.dcm", packed), 16) == expected(VALUES, 0, 4080)).all()


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.dcm"
    rgb = dataset(np.zeros((16, 16, 3), np.uint8), SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    assert "colour or several frames" in reason(write(path, rgb))
    assert "several frames" in reason(write(path, dataset(np.zeros((32, 16), np.uint16), Rows=16, NumberOfFrames=2)))
    assert "not MONOCHROME1" in reason(write(path, dataset(PhotometricInterpretation="PALETTE COLOR")))
    assert "too many pixels" in reason(write(path, dataset(Rows=60_000, Columns=60_000)))
    without = dataset()
    del without.PixelData
    assert "without pixels" in reason(write(path, without))
    assert "deflated" in reason(write(path, dataset(syntax=DeflatedExplicitVRLittleEndian)))
    assert "no X-ray" in reason(write(path, dataset(np.zeros((1, 2), np.uint16))))


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "secret.dcm"
    assert reason(path) == "is missing"
    path.touch()
    assert reason(path) in ("is not in a format that can be decoded", "is truncated or damaged")
    path.write_text("no DICOM " * 50)
    assert reason(path) == "is not in a format that can be decoded"
    data = write(path, dataset()).read_bytes()
    for kept in (140, 300, len(data) - 100):
        path.write_bytes(data[:kept])
        assert reason(path) in ("is truncated or damaged", "is a DICOM file without pixels")


def test_a_packing_without_a_decoder_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.encaps import encapsulate

    for syntax in (JPEGLosslessSV1, JPEG2000Lossless):
        data = dataset(syntax=syntax)
        data.PixelData = encapsulate([b"\xff\xd8 no image"])
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
        found = reason(write(tmp_path / "secret.dcm", data))
        available = pydicom.pixels.get_decoder(syntax).is_available
        assert found == "is truncated or damaged" if available else "pip install 'pydicom[all]'" in found


def test_without_pydicom_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "secret.dcm", dataset())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert "pip install 'cxrguard[dicom]'" in reason(path)


def test_nothing_of_the_patient_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    real = pydicom.dcmread

    def spy(*args: object, **kwargs: object) -> object:
        seen.append(real(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(pydicom, "dcmread", spy)
    load_pixels(write(tmp_path / "a.dcm", dataset()), 16)
    assert "PatientName" not in seen[0] and "PatientID" not in seen[0] and "ecret" not in str(seen[0])
