"""Phantoms: deterministic, on the side that the report says, and reports that say what is drawn."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from cxrguard.data import phantom
from cxrguard.data.phantom import Anatomy, PhantomReader, draw_anatomy, draw_image, smooth_field
from cxrguard.data.phantom_report import NAMES, SIZES, ZONES, Finding, draw_findings, write_report

SIDES = ("right", "left")
EVERY = [
    Finding("cardiomegaly"),
    *(Finding("nodule", side, size, zone) for side, size, zone in product(SIDES, SIZES, ZONES)),
    *(Finding("consolidation", side, zone=zone) for side, zone in product((*SIDES, "both"), ZONES)),
    *(Finding("effusion", side, size) for side, size in product((*SIDES, "both"), SIZES)),
    *(Finding("pneumothorax", side, size) for side, size in product(SIDES, SIZES)),
]
WORDS = {
    "effusion": "effusion",
    "nodule": "nodule",
    "cardiomegaly": "cardiac silhouette",
    "consolidation": "consolidation",
    "pneumothorax": "pneumothorax",
}


def anatomy(seed: int) -> Anatomy:
    return draw_anatomy(np.random.default_rng(seed))


def film(seed: int, *findings: Finding) -> np.ndarray:
    return draw_image(anatomy(seed), findings, np.random.default_rng(1000 + seed)).astype(float)


@pytest.fixture
def density(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw without exposure and noise."""
    monkeypatch.setattr(phantom, "_expose", lambda canvas, size: canvas.density)


def test_deterministic_by_seed() -> None:
    first, again = (PhantomReader(n_patients=8, seed=3).read()[0] for _ in range(2))
    assert first == again and all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, again, strict=True))  # type: ignore[arg-type]
    other = PhantomReader(n_patients=8, seed=4).read()[0]
    assert {r.prompt for r in first} != {r.prompt for r in other} and not {r.subject_id for r in first} & {r.subject_id for r in other}


def test_more_patients_leave_the_first_alone() -> None:
    few, more = PhantomReader(n_patients=4).read()[0], PhantomReader(n_patients=9).read()[0]
    assert more[: len(few)] == few


def test_global_generators_do_not_matter() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    first = PhantomReader(n_patients=3).read()[0]
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index, union-attr]
    np.random.seed(1)
    assert PhantomReader(n_patients=3).read()[0] == first


def test_records_are_complete_and_patients_have_several_studies() -> None:
    records, bad = PhantomReader(n_patients=60, max_studies=3, image_size=32).read()
    assert bad == [] and [r.row for r in records] == list(range(1, len(records) + 1))
    assert len({r.dicom_id for r in records}) == len({r.study_id for r in records}) == len(records)
    studies = [sum(r.subject_id == s for r in records) for s in {r.subject_id for r in records}]
    assert len(studies) == 60 and set(studies) == {1, 2, 3}
    for record in records:
        assert record.pixels is not None and record.pixels.shape == (32, 32) and record.pixels.dtype == np.uint8
        assert record.view in ("PA", "AP") and f"{record.view} view." in record.prompt and record.labels
    images = {r.pixels.tobytes() for r in records if r.pixels is not None}
    assert len(images) == len(records)


def test_patients_look_like_themselves() -> None:
    records = [r for r in PhantomReader(n_patients=150, image_size=32, seed=5).read()[0] if r.labels == ("No Finding",)]
    pairs = [(a, b) for i, a in enumerate(records) for b in records[:i]]
    gaps: dict[bool, list[float]] = {True: [], False: []}
    for a, b in pairs:
        gaps[a.subject_id == b.subject_id].append(float(np.square(a.pixels.astype(float) - b.pixels).mean()))  # type: ignore[union-attr, operator]
    assert len(gaps[True]) >= 5 and np.median(gaps[True]) < 0.7 * np.median(gaps[False])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("side", "half"), [("left", slice(32, 64)), ("right", slice(0, 32))])
def test_an_effusion_is_denser_at_the_base_of_its_side(side: str, half: slice, size: str) -> None:
    """As on a film, the patient's left is on the right of the image."""
    other = slice(0, 32) if half.start else slice(32, 64)
    gains = []
    for seed in range(12):
        change = film(seed, Finding("effusion", side, size)) - film(seed)
        assert np.abs(change[:, other]).mean() < 0.05 * np.abs(change[:, half]).mean() + 0.02
        assert change[32:, half].sum() > 0 and change[32:, half].sum() >= (0.5 if size == "large" else 0.8) * change[:, half].sum()
        gains.append(change[32:, half].mean())
    assert np.median(gains) > 2


@pytest.mark.parametrize("finding", [f for f in EVERY if f.side in SIDES], ids=Finding.phrase)
@pytest.mark.usefixtures("density")
def test_one_sided_findings_stay_on_their_side(finding: Finding) -> None:
    for seed in range(6):
        change = np.abs(film(seed, finding) - film(seed))
        halves = {"right": change[:, :32].sum(), "left": change[:, 32:].sum()}
        assert halves[finding.side] > 0.97 * change.sum() > 0


@pytest.mark.parametrize("finding", EVERY, ids=Finding.phrase)
def test_every_finding_changes_pixels(finding: Finding, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not np.array_equal(film(1, finding), film(1))
    monkeypatch.setattr(phantom, "_expose", lambda canvas, size: canvas.density)
    seen = [int((np.abs(film(seed, finding) - film(seed)) > 0.05).sum()) for seed in range(24)]
    # In a short lung a small effusion hides behind the diaphragm, as it does in life.
    assert np.median(seen) >= 20 and (min(seen) >= 3 or (finding.name, finding.size) == ("effusion", "small"))


@pytest.mark.parametrize("name", ["effusion", "pneumothorax", "nodule"])
@pytest.mark.usefixtures("density")
def test_larger_is_larger(name: str) -> None:
    for seed in range(5):
        areas = [np.abs(film(seed, Finding(name, "left", size, "mid")) - film(seed)).sum() for size in SIZES]
        assert areas == sorted(areas)


@pytest.mark.usefixtures("density")
def test_zones_lie_above_each_other_and_a_pneumothorax_is_darker() -> None:
    rows = np.arange(64)[:, None]
    for name in ("nodule", "consolidation"):
        for seed in range(5):
            changes = [np.abs(film(seed, Finding(name, "right", "large", zone)) - film(seed)) for zone in ZONES]
            heights = [float((c * rows).sum() / c.sum()) for c in changes]
            assert heights == sorted(heights)
    for seed in range(5):
        assert (film(seed, Finding("pneumothorax", "left", "large")) - film(seed)).sum() < 0


@pytest.mark.parametrize("findings", [(), *((f,) for f in EVERY), (EVERY[0], EVERY[-1]), (EVERY[3], EVERY[-8])], ids=lambda f: str(len(f)))
@pytest.mark.parametrize("deid", [True, False])
def test_a_report_names_exactly_the_findings(findings: tuple[Finding, ...], deid: bool) -> None:
    for has_prior in (True, False):
        report = write_report(findings, "PA", "F", 61, has_prior, deid, np.random.default_rng(0))
        body, impression = report.removeprefix("FINDINGS: ").split(" IMPRESSION: ")
        sentences = [s.strip() for s in body.lower().split(".") if s.strip()]
        negated = " ".join(s for s in sentences if s.startswith("no "))
        stated = [s for s in sentences if not s.startswith("no ")]
        drawn = {f.name for f in findings}
        for finding in findings:
            assert finding.phrase() in stated and finding.phrase() in impression.lower()
        for name in set(NAMES) - drawn:
            assert WORDS[name] not in " ".join(stated) and WORDS[name] not in impression.lower()
        assert {n for n in NAMES if WORDS[n] in negated} == {"effusion", "pneumothorax"} - drawn
        assert impression.endswith(".") and (findings or impression == "No acute cardiopulmonary process.")
        assert ("___" in report) == deid and ("61 year old woman" in report) != deid


def test_phrases_are_distinct_and_tell_side_size_and_zone() -> None:
    phrases = [f.phrase() for f in EVERY]
    assert len(set(phrases)) == len(phrases)
    for finding, phrase in zip(EVERY, phrases, strict=True):
        side = {"both": "bilateral"}.get(finding.side, finding.side)
        assert all(part in phrase.split() for part in (side, finding.size, finding.zone) if part)
        assert "  " not in phrase and phrase == phrase.strip()


def test_labels_and_prompts_agree_in_the_reader() -> None:
    names = {Finding(n).label: n for n in NAMES}
    seen = set()
    for record in PhantomReader(n_patients=80, image_size=8).read()[0]:
        impression = record.prompt.split("IMPRESSION: ")[1].lower()
        want = {label for label, name in names.items() if WORDS[name] in impression} or {"No Finding"}
        assert set(record.labels) == want
        seen |= want
    assert seen == {*names, "No Finding"}


def test_without_markers_nothing_is_written_there_and_the_images_are_the_same() -> None:
    marked, plain = (PhantomReader(n_patients=40, deid_markers=d).read()[0] for d in (True, False))
    assert all("___" in r.prompt for r in marked) and not any("_" in r.prompt or "  " in r.prompt for r in plain)
    for a, b in zip(marked, plain, strict=True):
        assert a.labels == b.labels and np.array_equal(a.pixels, b.pixels)  # type: ignore[arg-type]


def test_findings_are_drawn_without_repeats() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_findings(rng) for _ in range(600)]
    assert {len(d) for d in drawn} == {0, 1, 2} and all(len({f.name for f in d}) == len(d) for d in drawn)
    assert {f for d in drawn for f in d} == set(EVERY)


def test_smooth_fields_have_unit_variance_and_neighbours_agree() -> None:
    field = smooth_field(np.random.default_rng(0), 64, 4)
    assert field.shape == (64, 64) and field.std() == pytest.approx(1, abs=1e-6)
    assert np.abs(np.diff(field, axis=0)).mean() < 0.2 and np.abs(np.diff(field, axis=1)).mean() < 0.2
