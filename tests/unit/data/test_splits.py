"""Splits by patient."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrguard.data.records import ReportRecord
from cxrguard.data.splits import split_by_patient
from cxrguard.errors import CxrguardError

FRACTIONS = {"train": 0.6, "heldout": 0.3, "spare": 0.1}


def records_of(patients: list[str]) -> list[ReportRecord]:
    return [ReportRecord(p, f"s{i}", f"d{i}", "Clear.") for i, p in enumerate(patients)]


def where(splits: dict[str, list[ReportRecord]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, records in splits.items():
        for record in records:
            found.setdefault(record.subject_id, set()).add(name)
    return found


@given(st.lists(st.text(max_size=4)), st.lists(st.text(max_size=4)), st.integers(0, 9))
def test_disjoint_complete_and_stable_when_patients_are_added(first: list[str], more: list[str], seed: int) -> None:
    records, all_records = records_of(first), records_of(first + more)
    splits = split_by_patient(records, FRACTIONS, seed)
    assert list(splits) == list(FRACTIONS)
    assert sorted(r.dicom_id for part in splits.values() for r in part) == sorted(r.dicom_id for r in records)
    before, after = where(splits), where(split_by_patient(all_records[::-1], FRACTIONS, seed))
    assert all(len(names) == 1 for names in after.values())
    assert all(after[patient] == names for patient, names in before.items())


def test_order_is_kept_and_fractions_are_met() -> None:
    splits = split_by_patient(records_of([str(i) for i in range(4000)]), FRACTIONS, 3)
    for name, share in FRACTIONS.items():
        assert len(splits[name]) / 4000 == pytest.approx(share, abs=0.03)
        numbers = [int(r.subject_id) for r in splits[name]]
        assert numbers == sorted(numbers)


def test_seeds_differ_and_zero_fractions_stay_empty() -> None:
    records = records_of([str(i) for i in range(200)])
    assert where(split_by_patient(records, FRACTIONS, 0)) != where(split_by_patient(records, FRACTIONS, 1))
    splits = split_by_patient(records, {"a": 0.0, "b": 1.0, "c": 0.0}, 0)
    assert [len(part) for part in splits.values()] == [0, 200, 0]


def test_another_process_splits_alike() -> None:
    code = (
        "from cxrguard.data.splits import split_by_patient; from cxrguard.data.records import ReportRecord;"
        "s = split_by_patient([ReportRecord(str(i), '', str(i), '') for i in range(50)], {'a': 0.5, 'b': 0.5}, 0);"
        "print([r.subject_id for r in s['a']])"
    )
    env_runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(2)}
    expected = split_by_patient([ReportRecord(str(i), "", str(i), "") for i in range(50)], {"a": 0.5, "b": 0.5}, 0)["a"]
    assert env_runs == {f"{[r.subject_id for r in expected]}\n"}


@pytest.mark.parametrize("fractions", [{}, {"a": 0.5}, {"a": 1.2, "b": -0.2}, {"a": float("nan")}])
def test_bad_fractions(fractions: dict[str, float]) -> None:
    with pytest.raises(CxrguardError, match="sum to 1"):
        split_by_patient([], fractions, 0)
