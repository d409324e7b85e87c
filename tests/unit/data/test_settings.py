"""What readers ask of their settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxrguard.data.settings import data_root, one_of, section_prompt, some_of
from cxrguard.errors import BadInputError


def test_sections_asked_for() -> None:
    assert section_prompt("impression", "f", "i") == "i" and section_prompt("impression", "f", "") == "f"
    assert section_prompt("findings", "f", "i") == "f" and section_prompt("findings", "", "i") == "i"
    assert section_prompt("both", "f", "i") == "f\ni" and section_prompt("both", "", "i") == "i"


def test_a_root_is_a_directory_or_one_message(tmp_path: Path) -> None:
    assert data_root(str(tmp_path), "x", "table.csv") == tmp_path
    with pytest.raises(BadInputError, match=r"data\.root=/path/to/x .*table\.csv"):
        data_root("", "x", "table.csv")
    with pytest.raises(BadInputError, match=r"gone: there is no such directory.*table\.csv"):
        data_root(str(tmp_path / "gone"), "x", "table.csv")


def test_choices_are_among_the_known() -> None:
    assert some_of("data.views", None, ["PA"]) is None
    assert some_of("data.views", "PA", ["PA", "AP"]) == ("PA",) and some_of("data.views", ["AP", "PA"], ["PA", "AP"]) == ("AP", "PA")
    for wrong in ([], ["LL"], ["PA", "LL"], ""):
        with pytest.raises(BadInputError, match=r"data\.views must be some of PA, AP, or null for all"):
            some_of("data.views", wrong, ["PA", "AP"])
    assert one_of("data.prompt", "both", ["both"]) == "both"
    with pytest.raises(BadInputError, match=r"data\.prompt must be one of findings, both"):
        one_of("data.prompt", "all", ["findings", "both"])
