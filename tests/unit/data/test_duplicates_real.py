"""The figures in duplicates.py, on real images and reports: altered copies are found, and other patients are not taken for copies."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrguard.data.duplicates import Duplicates, find_duplicates

SHARED = Path(__file__).parents[4] / "shared" / "data"
NIH, OPEN_I = SHARED / "nih_cxr14_1000", SHARED / "openi" / "openi_reports.jsonl"
N, COPIES = 500, 100


def crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    left, top, right, bottom = rng.uniform(0, 0.03, 4) * np.array([*image.size, *image.size])
    return image.crop((int(left), int(top), int(image.width - right), int(image.height - bottom)))


def gamma(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return Image.fromarray((255 * (np.asarray(image) / 255) ** rng.uniform(0.7, 1.4)).round().astype(np.uint8))


def contrast(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    changed = np.asarray(image) * rng.uniform(0.7, 1.3) + rng.uniform(-25, 25)
    return Image.fromarray(np.clip(changed, 0, 255).round().astype(np.uint8))


def jpeg(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "jpeg", quality=int(rng.integers(20, 60)))
    return Image.open(io.BytesIO(file.getvalue())).convert("L")


def everything(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return jpeg(gamma(crop(image, rng), rng), rng)


CHANGES = [crop, gamma, contrast, jpeg, everything]
Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def films() -> list[tuple[str, Image.Image]]:
    if not NIH.is_dir():
        pytest.skip(f"{NIH} is not here")
    with (NIH / "Data_Entry_2017_v2020.csv").open(newline="") as file:
        rows = [(row["Patient ID"], NIH / "images" / row["Image Index"]) for row in csv.DictReader(file)]
    return [(patient, Image.open(path).convert("L")) for patient, path in rows]


def small(image: Image.Image, size: int) -> np.ndarray:
    return np.asarray(image.resize((size, size), Image.Resampling.BOX))


def judge(found: Duplicates, patients: list[str], originals: list[int]) -> tuple[float, int]:
    """The copies found (they follow the originals), and the groups that hold two originals of different patients."""
    groups = [*found.exact_images.rows, *found.near_images.rows]  # a gamma of 1.00 changes nothing
    by_row = {row: set(group) for group in groups for row in group}
    n = len(patients) - len(originals)
    recall = np.mean([original in by_row.get(n + i, ()) for i, original in enumerate(originals)])
    wrong = sum(len({patients[row] for row in group if row < n}) > 1 for group in groups)
    return float(recall), wrong


@pytest.mark.parametrize("size", [64, 256])
def test_altered_copies_are_found_and_other_patients_are_not(size: int) -> None:
    rng = np.random.default_rng(0)
    all_films = films()
    order = rng.permutation(len(all_films))
    used, originals = order[:N], rng.permutation(N)[:COPIES].tolist()
    for change in CHANGES:
        pixels = [small(all_films[i][1], size) for i in used] + [small(change(all_films[used[i]][1], rng), size) for i in originals]
        patients = [all_films[i][0] for i in used] + [f"copy {i}" for i in originals]
        found = find_duplicates(pixels, [str(i) for i in range(len(pixels))], patients, ["train"] * N + ["heldout"] * COPIES)
        recall, wrong = judge(found, patients, originals)
        print(f"{size} px, {change.__name__}: recall {recall:.2f}, groups with two patients {wrong}")
        assert recall >= 0.97 and wrong == 0
        assert found.near_images.across_splits + found.exact_images.across_splits >= 97


def test_no_two_of_all_patients_are_taken_for_one() -> None:
    """499,500 pairs of 1,000 real images."""
    some = films()
    found = find_duplicates([small(image, 64) for _, image in some], [""] * len(some), [p for p, _ in some], ["train"] * len(some))
    assert found.near_images.across_patients == 0 and found.unchecked_image_pairs == 0
    print("films of one patient that are alike:", found.exact_images.samples, "exactly,", found.near_images.samples, "nearly")


def edited(words: list[str], rng: np.random.Generator) -> str:
    """One word replaced, one marker put in, letters and stops changed."""
    words = list(words)
    words[int(rng.integers(len(words)))] = "other"
    words.insert(int(rng.integers(len(words))), "XXXX")
    return " ".join(words).upper().replace(".", ";")


def test_edited_reports_are_found() -> None:
    if not OPEN_I.is_file():
        pytest.skip(f"{OPEN_I} is not here")
    rows = [json.loads(line) for line in OPEN_I.read_text().splitlines()]
    texts = [" ".join(str(row.get(name) or "") for name in ("findings", "impression")).strip() for row in rows]
    texts = [text for text in dict.fromkeys(texts) if len(text.split()) >= 40]
    rng = np.random.default_rng(0)
    originals = rng.permutation(len(texts))[:COPIES].tolist()
    prompts = texts + [edited(texts[i].split(), rng) for i in originals]
    n = len(prompts)
    found = find_duplicates([np.zeros((2, 2), np.uint8)] * n, prompts, [str(i) for i in range(n)], ["train"] * n)
    together = {row: set(group) for group in found.near_prompts.rows for row in group}
    recall = np.mean([original in together.get(len(texts) + i, ()) for i, original in enumerate(originals)])
    print(f"{len(texts)} reports of 40 words or more, {recall:.2f} of {COPIES} edited ones found", found.near_prompts.samples)
    assert recall >= 0.97
