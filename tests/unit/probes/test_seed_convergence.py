"""Norms and agreement of few-step samples against loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from naive_probes import minus, norm, trailing

from cxrguard.probes.seed_convergence import SeedConvergence, log_agreement

STEPS, SEEDS, SCALE = 4, 3, 3.0


def test_against_loops(pair: Any) -> None:
    probe = SeedConvergence(steps=STEPS, seeds=SEEDS, norm_steps=2, guidance_scale=SCALE)
    want = []
    for p in pair.prompts():
        logs, ends = 0.0, []
        for seed in range(SEEDS):
            x = p.noise(seed)
            for k, t in enumerate(trailing(STEPS)):
                if k < 2:
                    logs += math.log(norm(minus(p.text(x, t), p.uncond(x, t)))) / SEEDS
                x = p.guided_step(x, t, STEPS, SCALE)
            ends.append(x)
        mean = [sum(column) / SEEDS for column in zip(*ends, strict=True)]
        power = sum(norm(x) ** 2 for x in ends)
        spread = sum(norm(minus(x, mean)) ** 2 for x in ends)
        want.append(logs + math.log(power / spread))
    assert probe(pair.denoiser, pair.batch).tolist() == pytest.approx(want, rel=1e-4)
    assert probe.evals_per_prompt == 2 * STEPS * SEEDS and probe.direction == "higher"


def test_equal_samples_agree_most() -> None:
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(1, 1, 2, 4, 4, generator=generator)
    apart = torch.randn(2, 1, 2, 4, 4, generator=generator)
    near = one + 0.01 * apart
    assert log_agreement(one.expand(2, -1, -1, -1, -1)) > log_agreement(near) > log_agreement(apart) >= 0
    assert torch.isfinite(log_agreement(one.expand(2, -1, -1, -1, -1))).all()


@pytest.mark.parametrize("arguments", [{"seeds": 1}, {"norm_steps": 5}, {"norm_steps": -1}, {"steps": 0, "norm_steps": 0}])
def test_arguments_out_of_range(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        SeedConvergence(**arguments)  # type: ignore[arg-type]
