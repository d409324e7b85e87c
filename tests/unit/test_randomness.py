"""Randomness is a function of its keys."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrguard.randomness import derive_seed, normal, numpy_generator, prompt_key, torch_generator

KEYS = st.lists(st.one_of(st.integers(-(10**6), 10**6), st.text("abc 1_", max_size=4)), max_size=4)


@given(KEYS, KEYS)
def test_equal_keys_and_only_they_give_equal_seeds(a: list[int | str], b: list[int | str]) -> None:
    assert 0 <= derive_seed(*a) < 2**63
    assert (derive_seed(*a) == derive_seed(*b)) == (a == b)


def test_order_type_and_grouping_matter() -> None:
    keys: list[tuple[str | int, ...]] = [
        ("a", "b"),
        ("b", "a"),
        ("ab",),
        ("a", "", "b"),
        ("a", 1),
        ("a", "1"),
        (1, "a"),
        ("a", 11),
        ("a", 1, 1),
    ]
    assert len({derive_seed(*k) for k in keys}) == len(keys)


def test_seeds_are_the_same_in_every_process() -> None:
    code = "from cxrguard.randomness import derive_seed; print(derive_seed('train', 0, 1, 2))"
    out = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": s}).stdout
        for s in "12"
    ]
    assert [int(x) for x in out] == [derive_seed("train", 0, 1, 2)] * 2


def test_generators_repeat_and_differ() -> None:
    assert numpy_generator("a", 1).random(3).tolist() == numpy_generator("a", 1).random(3).tolist()
    assert numpy_generator("a", 1).random(3).tolist() != numpy_generator("a", 2).random(3).tolist()
    assert torch.equal(torch.rand(3, generator=torch_generator("a", 1)), torch.rand(3, generator=torch_generator("a", 1)))
    assert torch.equal(normal((2, 3), "a", 1), normal((2, 3), "a", 1))
    assert not torch.equal(normal((2, 3), "a", 1), normal((2, 3), "a", 2))


def test_noise_is_standard_normal_float32_on_the_cpu() -> None:
    noise = normal((100, 100), "x")
    assert noise.dtype == torch.float32 and noise.device.type == "cpu"
    assert abs(noise.mean().item()) < 0.05 and abs(noise.std().item() - 1) < 0.05


def test_global_generators_are_neither_read_nor_changed() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index, union-attr]
    first = normal((4,), "a"), numpy_generator("a").random()
    assert random.getstate() == before[0] and np.random.get_state()[1].tolist() == before[1]  # type: ignore[index, union-attr]
    assert torch.equal(torch.get_rng_state(), before[2])
    torch.manual_seed(2)
    assert torch.equal(normal((4,), "a"), first[0])


def test_prompt_keys() -> None:
    assert prompt_key("a") == prompt_key("a") != prompt_key("a ")
    assert len(prompt_key("é" * 1000)) == 16 and int(prompt_key(""), 16) >= 0
