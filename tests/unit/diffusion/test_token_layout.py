"""Where tokens lie, for CLIP's and BERT's tokenizers saved to disk and loaded again, whatever the length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from cxrguard.diffusion.encoding import are_cut, token_layout, tokenize
from cxrguard.diffusion.loading import PipelineParts

PROMPTS = ["PA view. Small left pleural effusion.", "", "effusion", "effusion " * 300]


def test_end_is_the_end_token_and_begin_the_first_word(parts: PipelineParts) -> None:
    tokenizer = parts.tokenizer
    ids, layout = tokenize(tokenizer, PROMPTS), token_layout(tokenizer, PROMPTS)
    clip = parts.prediction_type == "epsilon"
    end_id = tokenizer.eos_token_id if clip else tokenizer.sep_token_id
    assert layout.length == tokenizer.model_max_length == ids.shape[1] and len(layout) == 4
    assert layout.begin.tolist() == [1, 1, 1, 1]
    # CLIP: the first EOS; BERT: the last token that is no padding.
    want = [row.index(end_id) for row in ids.tolist()]
    assert layout.end.tolist() == want and want[1] == 1 and want[3] == layout.length - 1
    if not clip:
        assert want == [max(i for i, token in enumerate(row) if token != tokenizer.pad_token_id) for row in ids.tolist()]
    assert layout.section("prompt").sum(dim=1).tolist() == [end - 1 for end in want]


@pytest.mark.parametrize("length", [16, 200])
def test_any_length(parts: PipelineParts, length: int) -> None:
    parts.tokenizer.model_max_length = length
    layout = token_layout(parts.tokenizer, PROMPTS)
    assert layout.length == length and int(layout.end[3]) == length - 1 and int(layout.end[1]) == 1


def test_padding_with_another_token_than_the_end(epsilon_parts: PipelineParts, tmp_path: Path) -> None:
    """Stable Diffusion 2 pads with ``!``."""
    epsilon_parts.tokenizer.save_pretrained(tmp_path)
    other: Any = AutoTokenizer.from_pretrained(tmp_path, pad_token="!", local_files_only=True)
    assert other.pad_token_id != other.eos_token_id
    before, after = token_layout(epsilon_parts.tokenizer, PROMPTS), token_layout(other, PROMPTS)
    assert before.end.tolist() == after.end.tolist() and before.begin.tolist() == after.begin.tolist()


def test_an_unknown_character_is_not_the_end(v_parts: PipelineParts, epsilon_parts: PipelineParts) -> None:
    for parts in (v_parts, epsilon_parts):
        plain, odd = token_layout(parts.tokenizer, ["effusion left", "effusion 語 left"]).end.tolist()
        assert odd > plain


def test_how_many_prompts_are_cut(parts: PipelineParts, caplog: pytest.LogCaptureFixture) -> None:
    assert sum(are_cut(parts.tokenizer, PROMPTS)) == 1 and are_cut(parts.tokenizer, []) == []
    fits = parts.tokenizer.model_max_length - 2
    assert [are_cut(parts.tokenizer, ["left " * n]) for n in (fits, fits + 1)] == [[False], [True]]
    assert are_cut(parts.tokenizer, ["left"] * 3) == [False] * 3 and not caplog.records
