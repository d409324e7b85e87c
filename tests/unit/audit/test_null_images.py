"""Which held-out images set the replay thresholds."""

from __future__ import annotations

import numpy as np
import pytest

import cxrguard.audit.groups as groups
from cxrguard.data.prepare import PromptedRecord, Study
from cxrguard.data.records import ReportRecord


def sample(name: str) -> PromptedRecord:
    return PromptedRecord(ReportRecord(name, name, name, f"Report {name}."), f"Report {name}.", np.zeros((2, 2), np.uint8))


@pytest.fixture
def study() -> Study:
    controls, heldout = [sample(f"c{i}") for i in range(3)], [sample(f"h{i}") for i in range(9)]
    return Study([], [], controls, heldout, (), {}, 0)


def test_all_where_they_are_few(study: Study) -> None:
    assert groups.null_images(study, 0) == [*study.controls, *study.heldout]


def test_many_are_drawn_by_the_seed_in_their_order(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MAX_NULL", 5)
    every = [s.record.dicom_id for s in (*study.controls, *study.heldout)]
    drawn = [[s.record.dicom_id for s in groups.null_images(study, seed)] for seed in range(20)]
    assert all(len(set(names)) == 5 and names == sorted(names, key=every.index) for names in drawn)
    assert drawn[3] == [s.record.dicom_id for s in groups.null_images(study, 3)]
    assert set().union(*drawn) == set(every)
