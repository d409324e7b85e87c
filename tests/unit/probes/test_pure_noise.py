"""‖Δε‖ on pure noise against loops."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from naive_probes import norm

from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.pure_noise import PureNoiseNorm


def test_against_loops(pair: Any) -> None:
    probe = PureNoiseNorm(timesteps=[800, 300], seeds=3)
    want = [sum(norm(p.difference(p.noise(s), t)) for t in (800, 300) for s in range(3)) / 6 for p in pair.prompts()]
    assert probe(pair.denoiser, pair.batch).tolist() == pytest.approx(want, rel=1e-4)
    rms = PureNoiseNorm(timesteps=[800, 300], seeds=3, rms=True)(pair.denoiser, pair.batch)
    assert rms.tolist() == pytest.approx([w / math.sqrt(3 * 4 * 8) for w in want], rel=1e-4)
    assert probe.evals_per_prompt == 12 and probe.direction == "higher"


def test_default_is_t_800_and_no_step_is_taken(denoiser: Any, batch: ProbeBatch) -> None:
    probe = PureNoiseNorm()
    probe(denoiser, batch)
    assert denoiser.timesteps == [800] * probe.evals_per_prompt == [800] * 8
    other = replace(batch, latents=torch.zeros_like(batch.latents))
    assert torch.equal(probe(denoiser, batch), probe(denoiser, other))


@pytest.mark.parametrize(
    ("arguments", "says"), [({"timesteps": []}, "one or more"), ({"timesteps": [-1]}, "from 0"), ({"seeds": 0}, "at least 1")]
)
def test_bad_arguments(arguments: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PureNoiseNorm(**arguments)


def test_a_timestep_that_the_schedule_lacks(denoiser: Any, batch: ProbeBatch) -> None:
    with pytest.raises(ValueError, match=r"timestep 1000 is not on the schedule \(0 to 999\)"):
        PureNoiseNorm(timesteps=[1000])(denoiser, batch)
