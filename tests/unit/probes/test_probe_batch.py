"""Noise is a function of (seed, key, draw) and of nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from cxrguard.errors import BadInputError
from cxrguard.probes.batch import ProbeBatch


def test_noise_depends_on_seed_key_and_draw_only(batch: ProbeBatch) -> None:
    noise = batch.noise(0)
    assert noise.shape == batch.latents.shape and noise.dtype == torch.float32
    other = replace(batch, latents=batch.latents * 0, encoder_hidden_states=batch.encoder_hidden_states + 1)
    assert torch.equal(other.noise(0), noise)
    assert torch.equal(replace(batch, keys=("d", "c", "b", "a")).noise(0), noise.flip(0))
    doubled = replace(batch, keys=("a", "a", "b", "a")).noise(0)
    assert torch.equal(doubled[0], doubled[3]) and torch.equal(doubled[2], noise[1])
    for changed in (batch.noise(1), replace(batch, seed=8).noise(0), replace(batch, keys=("e", "f", "g", "h")).noise(0)):
        assert not any(torch.equal(a, b) for a, b in zip(changed, noise, strict=True))
    assert len({tuple(x.flatten().tolist()) for x in noise}) == 4


def test_split_keeps_all_and_their_noise(batch: ProbeBatch) -> None:
    parts = batch.split(3)
    assert [len(p.keys) for p in parts] == [3, 1]
    assert torch.equal(torch.cat([p.noise(2) for p in parts]), batch.noise(2))
    assert torch.equal(torch.cat([p.latents for p in parts]), batch.latents)
    assert torch.equal(torch.cat([p.encoder_hidden_states for p in parts]), batch.encoder_hidden_states)
    assert sum((p.keys for p in parts), ()) == batch.keys
    assert all(p.base is None for p in parts)
    assert all(p.seed == 7 and p.scheduler_config is batch.scheduler_config for p in parts)


def test_the_base_goes_with_every_part_or_is_asked_for(denoiser: Any, batch: ProbeBatch) -> None:
    parts = replace(batch, base=denoiser).split(3)
    assert all(p.require_base("some_probe") is denoiser for p in parts)
    with pytest.raises(BadInputError, match=r"'some_probe' compares with the base checkpoint.*Give the model.*or leave this detector out"):
        batch.require_base("some_probe")


def test_a_timestep_for_each_prompt_of_the_schedule(denoiser: Any, batch: ProbeBatch) -> None:
    assert batch.at(999, denoiser).tolist() == [999] * 4 and batch.at(0, denoiser).dtype == torch.int64
    for outside in (-1, 1000):
        with pytest.raises(ValueError, match="is not on the schedule"):
            batch.at(outside, denoiser)
