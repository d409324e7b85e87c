"""Prompts of the user's own, to look at what they give while the model trains: a text file, one a line."""

from __future__ import annotations

from pathlib import Path

from cxrguard.data.text_lines import bounded_lines, open_text
from cxrguard.errors import BadInputError

MAX_PROMPTS = 64
_MAX_LINE = 10_000  # characters


def read_validation_prompts(path: str | Path) -> list[str]:
    """Prompts of a UTF-8 file, one a line; blank lines are skipped.

    Raises:
        BadInputError: there is no such file, it is not UTF-8, it has no prompt or more than :data:`MAX_PROMPTS`.

    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise BadInputError(f"validation.prompts: {file} is no file; give a text file with one prompt a line")
    refusal = (
        f"{file}: a line of {_MAX_LINE:,} characters or more, or far more text than {MAX_PROMPTS} prompts; "
        "validation.prompts takes a text file with one prompt a line"
    )
    try:
        with open_text(file) as lines:
            prompts = [line.strip() for line in bounded_lines(lines, _MAX_LINE, MAX_PROMPTS * _MAX_LINE, refusal)]
    except UnicodeDecodeError as error:
        raise BadInputError(f"{file}: byte {error.start:,} is not UTF-8; save the prompts as UTF-8") from None
    prompts = [prompt for prompt in prompts if prompt]
    if not 0 < len(prompts) <= MAX_PROMPTS:
        raise BadInputError(f"{file}: {len(prompts)} prompts; validation.prompts takes 1 to {MAX_PROMPTS}, one a line")
    return prompts
