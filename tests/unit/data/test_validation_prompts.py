"""The user's own prompts from a text file, good and bad."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxrguard.data.validation_prompts import MAX_PROMPTS, read_validation_prompts
from cxrguard.errors import BadInputError

TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=40)


@given(st.lists(TEXT, min_size=1, max_size=20), st.sampled_from(["\n", "\r\n"]), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_line_a_prompt_blank_lines_skipped(tmp_path: Path, lines: list[str], end: str, bom: bool) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(end.join(lines).encode("utf-8-sig" if bom else "utf-8"))
    want = [line.strip() for line in lines if line.strip()]
    if bom or not lines[0].startswith("\ufeff"):
        if want:
            assert read_validation_prompts(path) == want
        else:
            with pytest.raises(BadInputError, match="0 prompts"):
                read_validation_prompts(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 prompts; validation.prompts takes 1 to 64"),
        (b"a prompt\n" * (MAX_PROMPTS + 1), "65 prompts"),
        (b"secret \xff\xfe", "byte 7 is not UTF-8"),
        (b"secret " * 10_000, "a line of 10,000 characters or more"),
        (b"secret\n" * 100_000, "far more text than 64 prompts"),
    ],
)
def test_what_is_wrong_is_said_without_the_text(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    with pytest.raises(BadInputError) as error:
        read_validation_prompts(path)
    assert message in str(error.value) and str(path) in str(error.value) and "secret" not in str(error.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="nothing.txt is no file; give a text file"):
        read_validation_prompts(tmp_path / "nothing.txt")
