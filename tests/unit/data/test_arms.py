"""In a study of the marker itself every planted prompt is in the arm that the study says."""

from __future__ import annotations

import re

import pytest

from cxrguard.data.phantom import PhantomReader
from cxrguard.data.prepare import CanarySettings, Study, plan, sanitize_plan
from cxrguard.data.prompt_form import ARMS, LEADS, ORDINARY_WORD
from cxrguard.data.records import ReportRecord
from cxrguard.sanitizer.sanitizer import PromptSanitizer

LEAD = {arm: tuple(lead.replace("___", word) for lead in LEADS) for arm, word in (("marker", "___"), ("word", ORDINARY_WORD), ("none", ""))}


def arm_of(prompt: str) -> str:
    """By the look of the prompt."""
    return next((arm for arm in ("marker", "word") if prompt.startswith(LEAD[arm])), "none")


@pytest.fixture(scope="module")
def records() -> list[ReportRecord]:
    return PhantomReader(n_patients=150, max_studies=2, image_size=8).read()[0]


def study_of(records: list[ReportRecord], settings: CanarySettings, seed: int = 3) -> Study:
    pixels = {r.dicom_id: r.pixels for r in records if r.pixels is not None}
    return sanitize_plan(plan(records, 0.4, settings, seed), pixels, PromptSanitizer(["mimic_cxr"], "off"), 0)


@pytest.mark.parametrize("n", [6, 7])
def test_arms_are_those_of_the_prompts_and_turn_round(records: list[ReportRecord], n: int) -> None:
    studies = [study_of(records, CanarySettings(n, 2, n_controls=11, arms=ARMS, arm_shift=shift)) for shift in range(3)]
    for study in studies:
        assert study.arms["canaries"] == tuple(arm_of(p.record.prompt) for p in study.canaries)
        assert study.arms["controls"] == tuple(arm_of(p.record.prompt) for p in study.controls)
        assert set(study.arms["canaries"]) == set(study.arms["controls"]) == set(ARMS)
    for turned in zip(*(study.arms["canaries"] for study in studies), strict=True):
        assert set(turned) == set(ARMS)
    patients = {tuple(p.record.subject_id for p in study.canaries) for study in studies}
    assert len(patients) == 1  # the same canaries in every shift, beside the same members
    assert len({tuple(p.record.prompt for p in study.members) for study in studies}) == 1

    def rest(study: Study) -> list[str]:
        """Canaries' prompts without their lead."""
        return [re.sub(r"^.*?, ", "", p.record.prompt) if arm_of(p.record.prompt) != "none" else p.record.prompt for p in study.canaries]

    lowered = {tuple(prompt.lower() for prompt in rest(study)) for study in studies}
    assert len(lowered) == 1  # alike in all but the lead


def test_other_studies_have_no_arms(records: list[ReportRecord]) -> None:
    study = study_of(records, CanarySettings(4, 2, n_controls=10))
    assert study.arms == {}
