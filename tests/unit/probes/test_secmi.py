"""The step-wise error against loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naive_probes import minus

from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.secmi import SecMI


def by_loop(prompt: Any, timestep: int, interval: int) -> float:
    x = prompt.image
    for t in range(0, timestep, interval):
        x = prompt.move(x, prompt.text(x, t), t, t + interval)
    further = prompt.move(x, prompt.text(x, timestep), timestep, timestep + interval)
    back = prompt.move(further, prompt.text(further, timestep + interval), timestep + interval, timestep)
    return sum(d * d for d in minus(x, back))


@pytest.mark.parametrize(("timestep", "interval"), [(100, 10), (150, 50)])
def test_against_loops(pair: Any, timestep: int, interval: int) -> None:
    probe = SecMI(timestep=timestep, interval=interval)
    want = [by_loop(p, timestep, interval) for p in pair.prompts()]
    assert probe(pair.denoiser, pair.batch).tolist() == pytest.approx(want, rel=1e-4)
    assert probe.evals_per_prompt == timestep // interval + 2 and probe.direction == "lower"


def test_there_and_back(denoiser: Any, batch: ProbeBatch) -> None:
    probe = SecMI()
    probe(denoiser, batch)
    assert denoiser.timesteps == [*range(0, 101, 10), 110] and len(denoiser.timesteps) == probe.evals_per_prompt


def test_a_prediction_that_does_not_change_loses_nothing(denoiser: Any, batch: ProbeBatch) -> None:
    class Fixed(type(denoiser)):  # type: ignore[misc]
        def predict_noise(self, latents: Any, timesteps: Any, encoder_hidden_states: Any) -> Any:
            return torch.ones_like(latents)

    assert max(SecMI()(Fixed(), batch)) < 1e-9 < min(SecMI()(denoiser, batch))


@pytest.mark.parametrize(("timestep", "interval"), [(100, 30), (0, 10), (5, 10), (100, 0)])
def test_bad_arguments(timestep: int, interval: int) -> None:
    with pytest.raises(ValueError, match="multiple of interval"):
        SecMI(timestep=timestep, interval=interval)
