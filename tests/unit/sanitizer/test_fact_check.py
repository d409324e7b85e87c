"""The fact check must refuse each way in which a fact can change."""

from __future__ import annotations

import pytest

from cxrguard.sanitizer import pipeline
from cxrguard.sanitizer.conventions import load_conventions
from cxrguard.sanitizer.fact_check import keeps_facts


@pytest.mark.parametrize(
    ("original", "sanitized"),
    [
        ("No ___. Pneumothorax on the left.", "No pneumothorax on the left."),
        ("No left effusion.", "Left effusion."),
        ("Possible pneumonia.", "Pneumonia."),
        ("Effusion on the left.", "Effusion on the right."),
        ("Effusion on the left.", "Effusion."),
        ("A 3 cm mass.", "A 3 mm mass."),
        ("A 3.2 x ___ cm mass.", "A 3.2 x cm mass."),
        ("A 3.2 x ___ cm mass.", "A 3.2 cm mass."),
        ("Clear.", "Edema."),
    ],
)
def test_changed_fact_is_refused(original: str, sanitized: str) -> None:
    assert not keeps_facts(original, sanitized)
    assert keeps_facts(original, original)


def test_dropping_is_allowed() -> None:
    assert keeps_facts("No edema. Left effusion of 3 cm. Possible mass.", "Left effusion of 3 cm.")


def test_failed_check_ends_in_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "keeps_facts", lambda *_: False)
    result = pipeline.sanitize_text("Stable since ___.", load_conventions(["mimic_cxr"]))
    assert (result.text, result.status) == ("", "refused")
