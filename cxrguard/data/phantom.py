"""Chest X-ray phantoms: project-made images with matching reports, for the demo, the tests and the shipped base model.

An anatomy (lungs, heart, ribs, clavicles, spine, diaphragm) is drawn per patient and posed anew per study; findings are
added on top, on the side that the report says. As on a film, the patient's left is on the right of the image. Nothing
here comes from a real patient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrguard.data.lazy import Keep
from cxrguard.data.phantom_report import Finding, draw_findings, write_report
from cxrguard.data.records import Quarantined, ReportRecord
from cxrguard.randomness import derive_seed, numpy_generator

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Anatomy:
    """What stays the same for one patient; lengths are in units of half the image width."""

    width: float
    lung_height: float
    lung_shape: float
    asymmetry: float
    heart: float
    heart_tilt: float
    rib_spacing: float
    rib_phase: float
    rib_slope: float
    rib_contrast: float
    clavicle: float
    tissue: float
    device: int


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw one patient's anatomy."""
    return Anatomy(
        width=rng.uniform(0.78, 1.08),
        lung_height=rng.uniform(0.52, 0.74),
        lung_shape=rng.uniform(1.9, 3.2),
        asymmetry=rng.uniform(-0.08, 0.08),
        heart=rng.uniform(0.85, 1.15),
        heart_tilt=rng.uniform(0.1, 0.9),
        rib_spacing=rng.uniform(0.15, 0.24),
        rib_phase=rng.uniform(0, 1),
        rib_slope=rng.uniform(0.12, 0.5),
        rib_contrast=rng.uniform(0.04, 0.13),
        clavicle=rng.uniform(0.05, 0.16),
        tissue=rng.uniform(0.5, 0.8),
        device=int(rng.choice(4, p=[0.55, 0.2, 0.15, 0.1])),
    )


def smooth_field(rng: np.random.Generator, size: int, cells: int) -> Array:
    """A smooth random field of unit variance, ``[size, size]``: cubic interpolation of a ``cells``² grid."""
    coarse = rng.standard_normal((cells + 3, cells + 3))
    position = np.linspace(0, cells - 1e-6, size)
    index = position.astype(int)
    t = position - index
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1) / 6
    basis = np.zeros((size, cells + 3))
    for k in range(4):
        basis[np.arange(size), index + k] = weights[:, k]
    field: Array = basis @ coarse @ basis.T
    unit: Array = field / (field.std() + 1e-9)
    return unit


def _inside(distance: Array, softness: float) -> Array:
    """1 where ``distance`` < 0, 0 where > 0, with a soft edge."""
    return 1 / (1 + np.exp(np.clip(distance / softness, -30, 30)))


def _ellipse(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float, power: float = 2.0) -> Array:
    """Signed pseudo-distance to a superellipse (negative inside)."""
    radius = (np.abs((x - cx) / rx) ** power + np.abs((y - cy) / ry) ** power) ** (1 / power)
    return (radius - 1) * min(rx, ry)


@dataclass
class _Canvas:
    """The coordinates of one posed study and the density drawn so far (0 air, 1 bone)."""

    x: Array
    y: Array
    density: Array
    rng: np.random.Generator

    def add(self, amount: float, mask: Array) -> None:
        """Blend towards opaque: overlapping structures add up without leaving [0, 1]."""
        self.density += amount * mask * (1 - self.density)


def draw_image(anatomy: Anatomy, findings: tuple[Finding, ...], rng: np.random.Generator, size: int = 64) -> NDArray[np.uint8]:
    """Draw one study as uint8 ``[size, size]``, white is dense.

    Args:
        anatomy: the patient.
        findings: what the report says; ``side`` is the patient's side.
        rng: pose, exposure and noise of this study.
        size: pixels a side.

    """
    canvas = _pose(anatomy, rng, size)
    right, left = _lungs(canvas, anatomy, findings)
    _bones(canvas, anatomy, right + left)
    _heart(canvas, anatomy, findings)
    for finding in findings:
        lungs = {"right": right, "left": left, "both": right + left, "": right + left}[finding.side]
        _DRAW[finding.name](canvas, finding, lungs)
    _device(canvas, anatomy)
    return _expose(canvas, size)


def _pose(anatomy: Anatomy, rng: np.random.Generator, size: int) -> _Canvas:
    grid = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(grid, grid, indexing="ij")
    angle, scale = rng.normal(0, 0.035), rng.uniform(0.93, 1.06)
    dx, dy = rng.normal(0, 0.035, 2)
    x, y = ((np.cos(angle) * x - np.sin(angle) * y) / scale - dx, (np.sin(angle) * x + np.cos(angle) * y) / scale - dy)
    torso = _inside(np.abs(x) - 0.93 * anatomy.width * (1 - 0.18 * np.clip(-y - 0.45, 0, 1) ** 2 * 4), 0.03)
    neck = _inside(_ellipse(x, y, 0, -1.0, 0.3, 0.45), 0.05)
    density = 0.04 + anatomy.tissue * 0.85 * np.maximum(torso * _inside(-0.95 - y, 0.06), neck)
    return _Canvas(x, y, density, rng)


def _lungs(canvas: _Canvas, anatomy: Anatomy, findings: tuple[Finding, ...]) -> tuple[Array, Array]:
    """Carve the lungs (image left is the patient's right) and return their masks."""
    masks = []
    for sign in (-1, 1):
        height = anatomy.lung_height * (1 + sign * anatomy.asymmetry)
        cx, cy = sign * 0.42 * anatomy.width, -0.12
        outline = _ellipse(canvas.x, canvas.y, cx, cy, 0.33 * anatomy.width, height, anatomy.lung_shape)
        dome = cy + height * 0.72 + 0.35 * np.abs(canvas.x - cx) - (0.05 if sign < 0 else 0.0)
        mask = _inside(outline, 0.022) * _inside(canvas.y - dome, 0.02)
        canvas.density *= 1 - mask * 0.78
        masks.append(mask)
    return masks[0], masks[1]


def _bones(canvas: _Canvas, anatomy: Anatomy, lungs: Array) -> None:
    depth = np.abs(canvas.x) / anatomy.width
    arc = canvas.y + anatomy.rib_slope * (depth - 0.4) ** 2 * 2 - anatomy.rib_slope * depth * 0.6
    wave = np.cos(2 * np.pi * (arc / anatomy.rib_spacing + anatomy.rib_phase))
    canvas.add(anatomy.rib_contrast * 2, np.clip(wave, 0, 1) ** 2 * (0.25 + 0.75 * lungs) * _inside(depth - 0.86, 0.02))
    clavicle = np.abs(canvas.y + 0.62 + 0.16 * depth) - 0.025
    canvas.add(anatomy.clavicle * 2, _inside(clavicle, 0.014) * _inside(depth - 0.75, 0.03))
    canvas.add(0.35, _inside(np.abs(canvas.x) - 0.085, 0.02) * (0.75 + 0.25 * np.cos(canvas.y * 34)))


def _heart(canvas: _Canvas, anatomy: Anatomy, findings: tuple[Finding, ...]) -> None:
    enlarged = 1.42 if any(f.name == "cardiomegaly" for f in findings) else 1.0
    size = anatomy.heart * enlarged
    lean = anatomy.heart_tilt * 0.3
    x, y = canvas.x - 0.13 * enlarged, canvas.y - 0.2
    shape = _ellipse(x - lean * y * 0.4, y + lean * x * 0.4, 0, 0, 0.29 * size, 0.27 * size, 2.2)
    canvas.add(0.62, _inside(shape, 0.03))
    canvas.add(0.45, _inside(_ellipse(canvas.x, canvas.y, 0.09, -0.28, 0.13, 0.12), 0.025))
    for sign in (-1, 1):
        canvas.add(0.3, _inside(_ellipse(canvas.x, canvas.y, sign * 0.2, -0.05, 0.1, 0.17), 0.05))


def _side_sign(finding: Finding, rng: np.random.Generator) -> int:
    return {"right": -1, "left": 1}.get(finding.side) or int(rng.choice([-1, 1]))


def _effusion(canvas: _Canvas, finding: Finding, lungs: Array) -> None:
    level = {"small": 0.33, "moderate": 0.14, "large": -0.1}[finding.size]
    x = np.abs(canvas.x)
    meniscus = canvas.y - level + 0.5 * np.clip(x - 0.35, 0, 1) ** 2
    canvas.add(0.72, _inside(-meniscus, 0.03) * np.clip(lungs, 0, 1))


def _nodule(canvas: _Canvas, finding: Finding, lungs: Array) -> None:
    sign, cy = _side_sign(finding, canvas.rng), {"upper": -0.45, "mid": -0.15, "lower": 0.15}[finding.zone]
    cx = sign * canvas.rng.uniform(0.36, 0.5)
    radius = {"small": 0.06, "moderate": 0.09, "large": 0.13}[finding.size]
    canvas.add(0.7, _inside(_ellipse(canvas.x, canvas.y, cx, cy + canvas.rng.uniform(-0.05, 0.05), radius, radius), 0.014))


def _consolidation(canvas: _Canvas, finding: Finding, lungs: Array) -> None:
    cy = {"upper": -0.45, "mid": -0.12, "lower": 0.2}[finding.zone]
    patch = smooth_field(canvas.rng, canvas.x.shape[0], 7) * 0.1
    for sign in (-1, 1):
        if finding.side in ("both", "") or sign == _side_sign(finding, canvas.rng):
            blob = _ellipse(canvas.x, canvas.y, sign * 0.43, cy, 0.24, 0.2)
            canvas.add(0.6, _inside(blob + patch, 0.05) * np.clip(lungs, 0, 1))


def _pneumothorax(canvas: _Canvas, finding: Finding, lungs: Array) -> None:
    rim = {"small": 0.62, "moderate": 0.54, "large": 0.44}[finding.size]
    edge = np.abs(canvas.x) - rim + 0.35 * np.clip(canvas.y + 0.3, 0, 1)
    outer = _inside(-edge, 0.012) * lungs
    canvas.density *= 1 - 0.75 * outer
    canvas.add(0.5, np.exp(-((edge / 0.018) ** 2)) * lungs)


def _nothing(canvas: _Canvas, finding: Finding, lungs: Array) -> None:
    """Cardiomegaly is drawn with the heart."""


_DRAW = {
    "effusion": _effusion,
    "nodule": _nodule,
    "consolidation": _consolidation,
    "pneumothorax": _pneumothorax,
    "cardiomegaly": _nothing,
}


def _device(canvas: _Canvas, anatomy: Anatomy) -> None:
    """Some patients carry a pacemaker, a line or sternal wires: what makes a film recognisable."""
    if anatomy.device == 1:
        canvas.add(0.85, _inside(_ellipse(canvas.x, canvas.y, 0.5, -0.5, 0.12, 0.09, 3), 0.01))
        canvas.add(
            0.6, _inside(np.abs(canvas.x - 0.15 - 0.3 * (canvas.y + 0.1) ** 2) - 0.012, 0.01) * _inside(np.abs(canvas.y) - 0.4, 0.02)
        )
    elif anatomy.device == 2:
        canvas.add(0.6, _inside(np.abs(canvas.x + 0.16 + 0.25 * np.clip(-canvas.y - 0.4, 0, 1)) - 0.012, 0.01) * _inside(canvas.y, 0.02))
    elif anatomy.device == 3:
        ring = np.abs(np.hypot(canvas.x, (np.mod(canvas.y + 0.55, 0.22) - 0.11)) - 0.05) - 0.01
        canvas.add(0.7, _inside(ring, 0.01) * _inside(np.abs(canvas.y - 0.05) - 0.44, 0.01))


def _expose(canvas: _Canvas, size: int) -> NDArray[np.uint8]:
    rng = canvas.rng
    density = canvas.density + 0.03 * smooth_field(rng, size, 4) + 0.014 * smooth_field(rng, size, 16)
    density = np.clip(density + rng.normal(0, 0.008, (size, size)), 0, 1)
    film = density ** rng.uniform(0.75, 1.3) * rng.uniform(0.88, 1.05) + rng.uniform(-0.02, 0.05)
    return (np.clip(film, 0, 1) * 255).round().astype(np.uint8)


@dataclass(frozen=True)
class PhantomReader:
    """Draws ``n_patients`` phantom patients, 1 to ``max_studies`` studies each, deterministic by ``seed``.

    Args:
        n_patients: patients to draw.
        max_studies: most studies a patient.
        image_size: pixels a side.
        seed: the same seed gives the same pixels and reports.
        deid_markers: write ``___`` where MIMIC-CXR has it; False writes nothing there.

    """

    n_patients: int = 600
    max_studies: int = 3
    image_size: int = 64
    seed: int = 0
    deid_markers: bool = True

    def read(self, keep: Keep = list) -> tuple[Sequence[ReportRecord], list[Quarantined]]:
        """Return (records in patient order, no quarantined rows)."""
        return keep(self._records()), []

    def _records(self) -> Iterator[ReportRecord]:
        done = 0
        for patient in range(self.n_patients):
            records = self._patient(patient, done)
            done += len(records)
            yield from records

    def _patient(self, patient: int, done: int) -> list[ReportRecord]:
        rng = numpy_generator("phantom", self.seed, patient)
        anatomy = draw_anatomy(rng)
        sex, age = str(rng.choice(["M", "F"])), int(rng.integers(20, 90))
        records = []
        for study in range(int(rng.integers(1, self.max_studies + 1))):
            findings = draw_findings(rng)
            view = str(rng.choice(["PA", "AP"]))
            pixels = draw_image(
                anatomy, findings, np.random.default_rng(derive_seed("phantom-film", self.seed, patient, study)), self.image_size
            )
            prompt = write_report(findings, view, sex, age, study > 0, self.deid_markers, rng)
            labels = tuple(dict.fromkeys(f.label for f in findings)) or ("No Finding",)
            name = f"phantom-{self.seed}-{patient:06d}"
            records.append(
                ReportRecord(
                    name, f"{name}-{study}", f"{name}-{study}-0", prompt, labels, view, pixels=pixels, row=done + study + 1, sex=sex
                )
            )
        return records
