"""What a probe round can afford."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrguard.audit.budget import MIN_CANARIES, MIN_CONTROLS, Round, plan_round, some_rows

sizes = st.integers(1, 2000)


@given(st.floats(1, 1e7), st.integers(1, 500), st.integers(1, 8), st.builds(Round, sizes, sizes, sizes), st.integers(1, 64))
def test_a_round_stays_within_its_budget_or_at_the_least(budget: float, prompt: int, image: int, whole: Round, batch: int) -> None:
    chosen = plan_round(budget, prompt, image, whole, batch)
    assert 1 <= chosen.canaries <= whole.canaries and 1 <= chosen.controls <= whole.controls and 1 <= chosen.heldout <= whole.heldout
    cost = (chosen.canaries + chosen.controls) * prompt + chosen.heldout * image
    least = min(whole.canaries, MIN_CANARIES), min(whole.controls, MIN_CONTROLS)
    assert cost <= budget or chosen.canaries == least[0] or chosen.controls == least[1]
    if cost > budget:
        assert (chosen.canaries, chosen.controls) == least or chosen.heldout <= batch
    more = plan_round(2 * budget, prompt, image, whole, batch)
    assert more.canaries + more.controls >= chosen.canaries + chosen.controls - batch * image // prompt - 1


def test_a_large_budget_looks_at_everything() -> None:
    whole = Round(16, 100, 300)
    assert plan_round(56 * 116 + 4 * 300 + 10_000, 56, 4, whole, 16) == whole


def test_a_small_one_splits_one_to_two() -> None:
    assert plan_round(960, 20, 4, Round(16, 100, 300), 16) == Round(12, 26, 48)  # 192 evaluations for 48 images, 760 for 38 prompts


def test_rows_are_drawn_by_the_seed() -> None:
    rows = some_rows(40, 8, "canaries", 0)
    assert rows == sorted(set(rows)) == some_rows(40, 8, "canaries", 0) and len(rows) == 8
    assert rows != some_rows(40, 8, "canaries", 1) and rows != some_rows(40, 8, "controls", 0)
    assert some_rows(3, 5, "canaries", 0) == [0, 1, 2]


@pytest.mark.parametrize("bad", [(0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0)])
def test_costs_are_positive(bad: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        plan_round(bad[0], bad[1], bad[2], Round(1, 1, 1), bad[3])
