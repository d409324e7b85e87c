"""Rows in, rows out: counts, order, and errors that hold no text."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

from cxrguard.errors import CxrguardError, ResidualMarkerError
from cxrguard.sanitizer import bulk
from cxrguard.sanitizer.bulk import Counts, SanitizedRow, sanitize_batches
from cxrguard.sanitizer.pipeline import Sanitized, TextSanitizer
from cxrguard.sanitizer.settings import SanitizerSettings

SETTINGS = SanitizerSettings(("mimic_cxr", "open_i"))


@dataclass
class Rows:
    first_row: int
    texts: list[str]


BATCHES = [
    Rows(1, ["Clear lungs.", "", "No pneumothorax. Seen on ___."]),
    Rows(4, ["___"]),
    Rows(5, [f"Left effusion of {i} cm. ___." for i in range(9)]),
]


def test_workers_change_nothing() -> None:
    one = list(sanitize_batches(iter(BATCHES), SETTINGS))
    assert list(sanitize_batches(iter(BATCHES), SETTINGS, workers=2)) == one
    assert [batch.first_row for batch, _ in one] == [1, 4, 5]
    assert [row.status for row in one[0][1]] == ["unchanged", "unchanged", "edited"]
    assert one[0][1][2].markers == (("mimic_cxr", 1),)
    assert (one[1][1][0].text, one[1][1][0].status) == ("", "emptied")


def test_batches_are_taken_as_they_are_needed() -> None:
    taken = []

    def source() -> object:
        for i in range(100):
            taken.append(i)
            yield Rows(i + 1, ["Clear."])

    results = sanitize_batches(source(), SETTINGS, workers=2)  # type: ignore[type-var,arg-type]
    next(results)
    assert len(taken) <= 6
    results.close()  # type: ignore[attr-defined]


def test_counts() -> None:
    counts = Counts()
    rows = [
        SanitizedRow("a", "edited", (("age", "repair", 0, 3), ("age", "repair", 5, 8)), (("mimic_cxr", 2),)),
        SanitizedRow("", "refused"),
    ]
    counts.add(1, rows)
    counts.add(3, rows)
    assert counts.as_dict() == {
        "prompts": 4, "unchanged": 0, "edited": 2, "emptied": 0, "refused": 2, "residual_markers": 0, "edits": 4,
        "by_rule": {"age": 4}, "by_convention": {"mimic_cxr": 4},
    }  # fmt: skip
    with pytest.raises(CxrguardError, match=r"2 of 4 prompts .* \(row 2, 4\)"):
        counts.check_refused()


def test_only_the_first_ten_refused_rows_are_named() -> None:
    counts = Counts()
    counts.add(1, [SanitizedRow("", "refused")] * 12)
    with pytest.raises(CxrguardError, match=r"12 of 12 .*row 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, \.\.\.\)"):
        counts.check_refused()


def test_a_marker_that_is_left_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextSanitizer, "sanitize", lambda self, text: Sanitized(text, "edited"))
    with pytest.raises(ResidualMarkerError, match="Row 3: 1 marker"):
        list(sanitize_batches(iter(BATCHES), SETTINGS))


def test_off_counts_what_is_left() -> None:
    ((_, rows),) = sanitize_batches([Rows(1, ["Seen on ___."])], SanitizerSettings(("mimic_cxr",), "off"))
    assert (rows[0].text, rows[0].status, rows[0].residual) == ("Seen on ___.", "unchanged", 1)


def test_a_refused_prompt_is_empty_whatever_the_sanitizer_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextSanitizer, "sanitize", lambda self, text: Sanitized("sentinel", "refused"))
    ((_, rows),) = sanitize_batches([Rows(1, ["Seen on ___."])], SETTINGS)
    assert rows[0].text == ""


def test_a_bug_s_message_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, text: str) -> None:
        raise KeyError(text)

    monkeypatch.setattr(TextSanitizer, "sanitize", fail)
    with pytest.raises(CxrguardError, match=r"Row 7: the sanitizer failed \(KeyError\)") as caught:
        list(sanitize_batches([Rows(7, ["sentinel"])], SETTINGS))
    assert "sentinel" not in str(caught.value)
    assert caught.value.__context__ is None


def die(*_: object) -> None:
    os._exit(9)


def test_a_worker_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_work", die)
    with pytest.raises(CxrguardError, match="worker process ended"):
        list(sanitize_batches(iter(BATCHES), SETTINGS, workers=2))
