"""Every convention's own examples, and what every convention must hold; a new YAML is tested without touching this file."""

from __future__ import annotations

import time

import pytest

from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.conventions import find_markers, has_marker, known_conventions, load_convention, residual_markers
from cxrguard.sanitizer.pipeline import TextSanitizer
from cxrguard.sanitizer.settings import SanitizerSettings

NAMES = known_conventions()
EXAMPLES = [
    pytest.param(name, before, after, id=f"{name}-{i}")
    for name in NAMES
    for i, (before, after) in enumerate(load_convention(name).examples)
]
PLAIN = [
    "",
    "No pleural effusion.",
    "A 3.2 x 4 cm mass in the view_position PA, x-ray of 1 x 1 mm.",
    "[1] **bold** <b>47,XXX</b> T11/12, L4-5",
]


@pytest.mark.parametrize(("name", "before", "after"), EXAMPLES)
def test_example(name: str, before: str, after: str) -> None:
    sanitizer = TextSanitizer(SanitizerSettings(conventions=(name,)))
    result = sanitizer.sanitize(before)
    assert result.text == after
    assert sanitizer.residual(result.text) == 0
    assert sanitizer.sanitize(result.text).text == after


@pytest.mark.parametrize(("name", "before", "after"), EXAMPLES)
def test_example_holds_a_marker_unless_nothing_changes(name: str, before: str, after: str) -> None:
    assert has_marker(before, [load_convention(name)]) == (before != after)
    assert not has_marker(after, [load_convention(name)])


@pytest.mark.parametrize("name", NAMES)
def test_convention_is_complete(name: str) -> None:
    convention = load_convention(name)
    assert convention.name == name
    assert convention.description.strip()
    assert len(convention.examples) >= 6
    assert any(before == after for before, after in convention.examples), "one example of a text that stays byte for byte"
    assert convention.pattern.match("") is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", PLAIN)
def test_convention_matches_no_plain_text(name: str, text: str) -> None:
    assert residual_markers(text, [load_convention(name)]) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unit", ["_", "[**", "[", "<", "x", " ", "a", "1", "*", "A "])
def test_convention_is_linear(name: str, unit: str) -> None:
    text = (unit * 500_000)[:500_000]
    start = time.process_time()
    find_markers(text, [load_convention(name)])
    assert time.process_time() - start < 2


def test_unknown_convention_lists_known_ones() -> None:
    with pytest.raises(CxrguardError, match="auto.*mimic_cxr.*open_i"):
        load_convention("../secret")
