"""The change of the conditional prediction against loops."""

from __future__ import annotations

from typing import Any

import pytest
from naive_probes import minus, norm, trailing

from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.score_dynamics import ScoreDynamics


@pytest.mark.parametrize("step", [1, 2])
def test_against_loops(pair: Any, step: int) -> None:
    probe = ScoreDynamics(step=step, seeds=2, schedule_steps=10, guidance_scale=3.0)
    want = []
    for p in pair.prompts():
        total = 0.0
        for seed in range(2):
            x, predictions = p.noise(seed), []
            for t in trailing(10)[: step + 1]:
                predictions.append(p.text(x, t))
                x = p.guided_step(x, t, 10, 3.0)
            total += norm(minus(predictions[-1], predictions[-2]))
        want.append(total / 2)
    assert probe(pair.denoiser, pair.batch).tolist() == pytest.approx(want, rel=1e-4)
    assert probe.evals_per_prompt == 4 * (step + 1) and probe.direction == "higher"


def test_the_timesteps_visited(denoiser: Any, batch: ProbeBatch) -> None:
    ScoreDynamics(seeds=1)(denoiser, batch)
    assert denoiser.timesteps == [999, 999, 979, 979]


@pytest.mark.parametrize("step", [0, 50])
def test_steps_out_of_range(step: int) -> None:
    with pytest.raises(ValueError, match=r"step must be 1 to schedule_steps - 1 \(49\)"):
        ScoreDynamics(step=step)
