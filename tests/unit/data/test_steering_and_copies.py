"""Held-out samples that steer the guard, and near copies that stand for repeats."""

from __future__ import annotations

import numpy as np
import pytest

from cxrguard.data.near_copies import MOST_CROPPED, near_copy_of_image, reword
from cxrguard.data.phantom import PhantomReader
from cxrguard.data.prepare import CanarySettings, plan, sanitize_plan
from cxrguard.data.prompt_form import LEADS
from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.sanitizer import PromptSanitizer

RECORDS = PhantomReader(n_patients=260).read()[0]


def planned(**settings):
    return plan(RECORDS, 0.5, CanarySettings(n=4, repeats=5, n_controls=12, n_members=6, **settings), seed=3)


def patients(records):
    return {r.subject_id for r in records}


def test_steering_samples_are_of_patients_of_their_own():
    with_some = planned(n_steering=30)
    assert len(with_some.steering) >= 30
    others = patients([*with_some.members, *with_some.canaries, *with_some.controls, *with_some.heldout])
    assert not patients(with_some.steering) & others


def test_steering_changes_nothing_else():
    without, with_some = planned(), planned(n_steering=30)
    for name in ("members", "canaries", "controls", "repeats", "prompt_controls"):
        assert getattr(without, name) == getattr(with_some, name)
    kept = [r for r in without.heldout if r not in with_some.steering]
    assert with_some.heldout == kept and len(kept) < len(without.heldout)


def test_steering_does_not_depend_on_the_order_of_the_table():
    turned = plan(RECORDS[::-1], 0.5, CanarySettings(n=4, repeats=5, n_controls=12, n_members=6, n_steering=30), seed=3)
    assert patients(turned.steering) == patients(planned(n_steering=30).steering)


@pytest.mark.parametrize("n", [-1, 10_000])
def test_too_many_for_steering_are_refused(n):
    with pytest.raises(CxrguardError, match="canaries.n_steering"):
        planned(n_steering=n)


def test_copies_are_one_a_repeat_and_differ():
    some = planned(near_copies=True)
    assert some.copy_of == [i for i in range(4) for _ in range(4)]
    assert some.canaries == planned().canaries and some.share == planned().share
    for copy, of in zip(some.copies, some.copy_of, strict=True):
        original = some.canaries[of]
        assert copy.subject_id == original.subject_id and copy.dicom_id != original.dicom_id
        own = original.prompt.split(". ")[1].split(" ", 1)[1]
        assert own in copy.prompt, "the words that are a prompt's own stay"
    assert len({c.prompt for c in some.copies}) > 8


def test_a_study_trains_on_copies_once():
    some = planned(near_copies=True)
    pixels = {r.dicom_id: r.pixels for r in RECORDS}
    study = sanitize_plan(some, pixels, PromptSanitizer(["auto"], action="off"), 0, seed=3)
    assert len(study.trained) == len(study.showings) == len(study.members) + 4 + 16
    assert set(study.showings) == {1} and study.repeats == (5, 5, 5, 5)
    for copy, of in zip(study.copies, study.copy_of, strict=True):
        difference = np.abs(copy.pixels.astype(float) - study.canaries[of].pixels).mean()
        assert 0 < difference < 40
    exact = sanitize_plan(planned(), pixels, PromptSanitizer(["auto"], action="off"), 0)
    assert exact.showings[-4:] == [5] * 4 and not exact.copies


def test_a_near_copy_of_an_image_is_near_and_seeded():
    image = RECORDS[0].pixels
    one, same, other = (near_copy_of_image(image, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one.shape == image.shape and one.dtype == np.uint8
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    shifted = np.roll(image, 20, axis=1)
    assert np.abs(one.astype(float) - image).mean() < np.abs(shifted.astype(float) - image).mean()


def test_a_crop_takes_away_no_more_than_it_says():
    image = np.zeros((100, 100), np.uint8)
    image[50:, :] = 255
    for seed in range(50):
        edge = int((near_copy_of_image(image, np.random.default_rng(seed))[:, 0] > 127).argmax())
        assert abs(edge - 50) <= 100 * MOST_CROPPED


def test_reword_keeps_a_prompt_without_a_lead():
    generator = np.random.default_rng(0)
    assert reword("Streaky opacities. Note faint scar base. Clear lungs.", generator).endswith("faint scar base. Clear lungs.")
    with_lead = reword(f"{LEADS[0]} x. Note y.", generator)
    assert any(with_lead.startswith(lead) for lead in LEADS)
