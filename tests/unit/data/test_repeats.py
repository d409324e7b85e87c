"""Duplicate removal and repeat caps."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from cxrguard.data.phantom import PhantomReader
from cxrguard.data.prepare import CanarySettings, Study, plan, sanitize_plan
from cxrguard.data.repeats import RepeatLimit
from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.sanitizer import PromptSanitizer


@cache
def study(near_copies: bool) -> Study:
    records = PhantomReader(n_patients=160).read()[0]
    settings = CanarySettings(n=3, repeats=4, n_controls=12, n_members=6, near_copies=near_copies)
    pixels = {r.dicom_id: r.pixels for r in records}
    return sanitize_plan(plan(records, 0.5, settings, seed=1), pixels, PromptSanitizer(["auto"], action="off"), 0, seed=1)


def of_canaries(showings: list[int], near_copies: bool) -> np.ndarray:
    """Showings of each canary, those of its near copies with it."""
    some = study(near_copies)
    n, k = len(some.members), len(some.canaries)
    total = np.array(showings[n : n + k])
    np.add.at(total, list(some.copy_of), showings[n + k :])
    return total


def test_off_changes_nothing():
    assert RepeatLimit().showings(study(False)) == study(False).showings and not RepeatLimit().acts


@pytest.mark.parametrize("most", [1, 2])
def test_exact_repeats_are_capped(most):
    showings = RepeatLimit(images="exact", most=most).showings(study(False))
    assert of_canaries(showings, False).tolist() == [most] * 3
    assert set(showings[:-3]) == {1}, "members that are like no other stay"


def test_near_copies_are_no_exact_duplicates():
    assert RepeatLimit(images="exact").showings(study(True)) == study(True).showings


def test_near_copies_are_capped_together():
    """Not all need be found. Drawn phantoms are taken for members' copies, too: fewer than one a canary may stay."""
    showings = RepeatLimit(images="near").showings(study(True))
    assert of_canaries(showings, True).sum() <= 8
    assert set(showings) == {0, 1}


def test_prompts_that_are_the_same_are_capped():
    showings = RepeatLimit(prompts="exact", most=3).showings(study(False))
    assert of_canaries(showings, False).tolist() == [3] * 3


@pytest.mark.parametrize("wrong", [{"images": "nearly"}, {"prompts": "yes"}, {"images": "near", "most": 0}])
def test_wrong_settings_are_told(wrong):
    with pytest.raises(CxrguardError, match="guard.repeats"):
        RepeatLimit(**wrong)
