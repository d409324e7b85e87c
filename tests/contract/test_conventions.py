"""Every convention's own examples, and what every convention must hold; a new YAML is tested without touching this file."""

from __future__ import annotations

import pytest

from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.conventions import known_conventions, load_convention, residual_markers
from cxrguard.sanitizer.pipeline import sanitize_text

NAMES = known_conventions()
EXAMPLES = [
    pytest.param(name, before, after, id=f"{name}-{i}")
    for name in NAMES
    for i, (before, after) in enumerate(load_convention(name).examples)
]


@pytest.mark.parametrize(("name", "before", "after"), EXAMPLES)
def test_example(name: str, before: str, after: str) -> None:
    conventions = [load_convention(name)]
    result = sanitize_text(before, conventions)
    assert result.text == after
    assert residual_markers(result.text, conventions) == 0
    assert sanitize_text(result.text, conventions).text == after


@pytest.mark.parametrize("name", NAMES)
def test_convention_is_complete(name: str) -> None:
    convention = load_convention(name)
    assert convention.name == name
    assert convention.description.strip()
    assert len(convention.examples) >= 6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["", "No pleural effusion.", "A 3.2 x 4 cm mass in the view_position PA, x-ray of 1 x 1 mm."])
def test_convention_matches_no_plain_text(name: str, text: str) -> None:
    assert residual_markers(text, [load_convention(name)]) == 0


def test_unknown_convention_lists_known_ones() -> None:
    with pytest.raises(CxrguardError, match="mimic_cxr.*open_i"):
        load_convention("../secret")
