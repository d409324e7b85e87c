"""A miniature NIH ChestX-ray14 directory: phantom images under the data set's own names."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cxrguard.data.nih_cxr14 import TABLE
from cxrguard.data.phantom import PhantomReader

HEADER = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position"]
LABELS = ("No Finding", "Effusion", "Mass", "Nodule|Effusion", "Cardiomegaly", "Pneumothorax", "Infiltration", "Atelectasis|Mass")
FIRST_PATIENT = 90_000_000  # long, so that no figure holds one by chance


@dataclass(frozen=True)
class NihMiniature:
    """``truncated`` and ``sixteen_bit`` are the 1-based rows of the two images that cannot be used."""

    root: Path
    truncated: int
    sixteen_bit: int
    names: list[str]
    patients: list[str]


def write_nih_miniature(root: Path, n_patients: int = 230, size: int = 16) -> NihMiniature:
    """Patients with one AP film each; every fourth has a PA film too, and every sixth has PA films only."""
    (root / "images").mkdir(parents=True)
    films = PhantomReader(n_patients=n_patients, max_studies=1, image_size=size).read()[0]
    rows, names = [], []
    for i, film in enumerate(films):
        views = ["PA", "PA"] if i % 6 == 0 else ["AP", "PA"] if i % 4 == 0 else ["AP"]
        for k, view in enumerate(views):
            name = f"{FIRST_PATIENT + i:08d}_{k:03d}.png"
            assert film.pixels is not None
            Image.fromarray(np.roll(film.pixels, k, axis=0)).save(root / "images" / name)
            rows.append([name, LABELS[i % len(LABELS)], k, FIRST_PATIENT + i, 20 + i % 60, "MF"[i % 2], view])
            names.append(name)
    with (root / TABLE).open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    ap = [i for i, row in enumerate(rows) if row[-1] == "AP"]
    cut, deep = ap[3], ap[8]
    whole = (root / "images" / names[cut]).read_bytes()
    (root / "images" / names[cut]).write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.full((size, size), 4000, dtype=np.uint16)).save(root / "images" / names[deep])
    return NihMiniature(root, cut + 1, deep + 1, names, [str(FIRST_PATIENT + i) for i in range(n_patients)])
