"""What the repair keeps of all 3,955 Open-I reports, and that it breaks nothing; how it is measured is told in ``open_i_measures``."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import pytest
from open_i_facts import split_sentences
from open_i_measures import BOUND, SECTIONS, Measures, Tally, measure, new_defects, texts_of
from open_i_separable import separable

from cxrguard.sanitizer.conventions import MARK
from cxrguard.sanitizer.pipeline import Sanitized, TextSanitizer
from cxrguard.sanitizer.settings import SanitizerSettings

ROOT = Path(__file__).resolve().parents[3]
OPEN_I = Path(os.environ.get("CXRGUARD_SHARED", ROOT.parent / "shared")) / "data" / "openi" / "openi_reports.jsonl"
on_open_i = pytest.mark.skipif(not OPEN_I.exists(), reason="Open-I reports not on disk")


@pytest.fixture(scope="module")
def measures() -> dict[str, Measures]:
    core = TextSanitizer(SanitizerSettings(("open_i",)))
    sanitize = cache(core.sanitize)
    reports = [texts_of(json.loads(line)) for line in OPEN_I.read_text(encoding="utf-8").splitlines()]
    assert len(reports) == 3955
    return {name: measure([report[name] for report in reports if name in report], sanitize) for name in (*SECTIONS, "prompt")}


def shares(tallies: list[Tally]) -> float:
    return sum(tally.kept for tally in tallies) / sum(tally.facts for tally in tallies)


# Only counts stand in the assertions: a failure prints no report.
@on_open_i
def test_facts_of_sentences_without_a_marker_are_kept(measures: dict[str, Measures]) -> None:
    assert shares([measures[section].unmarked for section in SECTIONS]) >= 0.97
    assert shares([measures["prompt"].unmarked]) >= 0.97


@on_open_i
def test_separable_facts_of_marked_sentences_are_kept(measures: dict[str, Measures]) -> None:
    assert sum(measures[section].separable.facts for section in SECTIONS) > 8000
    assert shares([measures[section].separable for section in SECTIONS]) >= 0.85
    assert shares([measures["prompt"].separable]) >= 0.85


@on_open_i
def test_no_defect_is_made(measures: dict[str, Measures]) -> None:
    counts = {name: {kind: n for kind, n in found.defects.items() if kind in BOUND} for name, found in measures.items()}
    assert not any(counts.values()), counts


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The opacity is unchanged since █.", "opacity stable"),
        ("█-year-old female with chest pain.", "female chest pain"),
        ("The heart and pulmonary █ are normal.", "heart normal"),
        ("Heart size █ enlarged, lungs clear.", "lung clear"),
        ("No █, effusion or pneumothorax.", "effusion pneumothorax"),
        ("No █, effusion on the left.", ""),
        ("There is atelectasis or █.", ""),
        ("The █ are intact.", ""),
        ("Opacity, █ representing pneumonia.", "opacity"),
        ("Left base opacity most █ representing pneumonia.", "left base opacity"),
        ("Stable █ and effusion.", ""),
        ("Mild, age-indeterminate wedge █ deformity of T6.", ""),
        ("The lungs are clear; the █ is enlarged.", "lung clear"),
        ("There are sternotomy █ and surgical clips.", "surgical clip"),
        ("Pneumothorax discussed with Dr. █ at █.", ""),
        ("A mass in the right lung with █ of the hilum.", "mass right lung"),
    ],
)
def test_what_counts_as_separable(sentence: str, expected: str) -> None:
    assert " ".join(fact.word for fact, free in separable(sentence.replace("█", MARK)) if free) == expected


@pytest.mark.parametrize(
    ("after", "kinds"),
    [
        ("The opacity is unchanged since.", ["function word before stop"]),
        ("Unchanged from, no effusion.", ["function word before stop"]),
        ("The lungs are.", ["bare verb at end"]),
        ("Clear lungs,. No effusion.", ["doubled punctuation"]),
        (", no effusion.", ["leading punctuation"]),
        ("Clear lungs ().", ["empty brackets"]),
        ("Clear lungs. no effusion.", ["lower-case start"]),
        ("No effusion.", []),
    ],
)
def test_defects_are_seen(after: str, kinds: list[str]) -> None:
    assert [kind for kind, _ in new_defects("Clear lungs since XXXX, no effusion.", after) if kind in BOUND] == kinds
    assert not new_defects(after, after)


def test_a_lost_fact_is_counted_where_it_stood() -> None:
    found = measure(
        ["Clear lungs. Effusion, stable since XXXX. No edema."], lambda text: Sanitized("Clear lungs. Effusion. No edema.", "edited")
    )
    assert (found.unmarked.kept, found.unmarked.facts) == (3, 3)
    assert (found.separable.kept, found.separable.facts) == (0, 2)
    found = measure(["Clear lungs. Effusion stable since XXXX."], lambda text: Sanitized("", "refused"))
    assert (found.unmarked.share, found.separable.share, found.refused) == (0, 0, 1)


def test_sentences() -> None:
    text = "1. Seen by Dr. Lee at 3 p.m. today. No. 2 is 3.2 cm.Heart normal. 2. Clear"
    assert split_sentences(text) == ["1. Seen by Dr. Lee at 3 p.m. today.", "No. 2 is 3.2 cm.", "Heart normal.", "2. Clear"]
