"""A text encoder that is trained: prompts as it reads them now, beside what the base made of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cxrguard.audit.groups import Group, Judged, References, Variant


def judged() -> Judged:
    variant = Variant(torch.ones(2, 3, 4), ("a", "b"), None, ("one", "three"))
    group = Group(
        "canaries", torch.zeros(2, 1, 8, 8), torch.zeros(2, 4, 1, 1), (variant,), torch.tensor([0, 1]), ("p", "q"), (1, 1), ("x", "y")
    )
    return Judged({"canaries": group}, References({}, {}, torch.zeros(0)), torch.zeros(1, 3, 4))


def lengths(prompts: Sequence[str]) -> torch.Tensor:
    return torch.tensor([float(len(p)) for p in prompts])[:, None, None].expand(-1, 3, 4)


def test_states_are_new_and_the_base_keeps_its_own() -> None:
    twice = judged().encoded_by(lambda prompts: lengths(prompts) + 100).encoded_by(lengths)
    batch = twice.batch("canaries", 0, 0, None)
    assert batch.encoder_hidden_states[:, 0, 0].tolist() == [3, 5] and float(batch.uncond_hidden_states.max()) == 0
    base = batch.as_base()
    assert torch.equal(base.encoder_hidden_states, torch.ones(2, 3, 4)) and torch.equal(base.uncond_hidden_states, torch.zeros(1, 3, 4))
    assert base.keys == batch.keys and torch.equal(base.noise(0), batch.noise(0))


def test_a_frozen_encoder_has_one_reading() -> None:
    batch = judged().batch("canaries", 0, 0, None)
    assert batch.as_base() is batch


def test_some_prompts_keep_all_that_is_theirs() -> None:
    changed = judged().encoded_by(lengths)
    taken = changed.groups["canaries"].take([1]).variants[0]
    assert taken.prompts == ("three",) and taken.keys == ("b",)
    assert taken.states[0, 0, 0] == 5 and taken.base_states is not None and len(taken.base_states) == 1


def test_parts_of_a_batch_keep_the_base_too() -> None:
    parts = judged().encoded_by(lengths).batch("canaries", 0, 0, None).split(1)
    assert [float(p.as_base().encoder_hidden_states.mean()) for p in parts] == [1.0, 1.0]
    assert [float(p.encoder_hidden_states.mean()) for p in parts] == [3.0, 5.0]
