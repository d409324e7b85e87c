"""Sections of tokens, and the batch that carries them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.tokens import SECTIONS, TokenLayout

LAYOUT = TokenLayout(torch.tensor([1, 1, 0, 2]), torch.tensor([3, 1, 4, 2]), 5)


def test_each_token_is_in_one_section() -> None:
    want = {
        "begin": ["x....", "x....", ".....", "xx..."],
        "prompt": [".xx..", ".....", "xxxx.", "....."],
        "end": ["...x.", ".x...", "....x", "..x.."],
        "padding": ["....x", "..xxx", ".....", "...xx"],
    }
    for name in SECTIONS:
        assert ["".join("x" if v else "." for v in row) for row in LAYOUT.section(name).tolist()] == want[name]
    assert torch.stack([LAYOUT.section(name) for name in SECTIONS]).sum(dim=0).eq(1).all()
    assert torch.equal(LAYOUT.summary, LAYOUT.section("end") | LAYOUT.section("padding"))
    with pytest.raises(ValueError, match="section must be one of begin, prompt, end, padding, not 'middle'"):
        LAYOUT.section("middle")


@pytest.mark.parametrize(("begin", "end", "length"), [([2], [1], 5), ([-1], [1], 5), ([0], [5], 5), ([0, 1], [2], 5), ([[0]], [[2]], 5)])
def test_impossible_layouts(begin: Any, end: Any, length: int) -> None:
    with pytest.raises(ValueError, match=r"begin"):
        TokenLayout(torch.tensor(begin), torch.tensor(end), length)


def test_slices_and_rows() -> None:
    assert (
        LAYOUT[1:3].end.tolist() == [1, 4] and LAYOUT[[3, 0]].begin.tolist() == [2, 1] and LAYOUT[1:3].length == 5 and len(LAYOUT[:2]) == 2
    )


def test_a_batch_keeps_them_in_its_parts(batch: ProbeBatch) -> None:
    full = replace(batch, tokens=TokenLayout(torch.tensor([0, 1, 1, 1]), torch.tensor([1, 2, 1, 2]), 3))
    parts = full.split(3)
    assert [p.tokens.end.tolist() for p in parts] == [[1, 2, 1], [2]]  # type: ignore[union-attr]
    assert full.require_tokens("x") is full.tokens
    assert [p.tokens for p in batch.split(3)] == [None, None]
