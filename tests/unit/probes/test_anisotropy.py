"""Asthana's score against loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naive_probes import norm, trailing

from cxrguard.probes.anisotropy import Anisotropy, guidance_alignment
from cxrguard.probes.batch import ProbeBatch


def alignment_by_loop(uncond: list[float], difference: list[float], channels: int) -> float:
    """Cosine over channels at each position, mean over positions."""
    n = len(uncond) // channels
    cosines = []
    for i in range(n):
        u, d = uncond[i::n], difference[i::n]
        cosines.append(sum(a * b for a, b in zip(u, d, strict=True)) / norm(u) / norm(d))
    return sum(cosines) / n


def test_against_loops(pair: Any) -> None:
    probe = Anisotropy(gamma_norm=0.5, gamma_cosine=3.0, seeds=2)
    first, low = trailing(50)[0], trailing(50)[-3]
    assert (first, low) == (999, 59)
    want = []
    for p in pair.prompts():
        total = 0.0
        for seed in range(2):
            x = p.noise(seed)
            total += 0.5 * norm(p.difference(x, first)) + 3.0 * alignment_by_loop(p.uncond(x, low), p.difference(x, low), 3)
        want.append(total / 2)
    assert probe(pair.denoiser, pair.batch).tolist() == pytest.approx(want, rel=1e-4)
    assert probe.evals_per_prompt == 8 and probe.direction == "higher"


def test_both_on_the_same_noise_without_denoising(denoiser: Any, batch: ProbeBatch) -> None:
    Anisotropy(seeds=1)(denoiser, batch)
    assert denoiser.timesteps == [999, 999, 59, 59]


def test_alignment_is_one_where_guidance_points_along_the_unconditional() -> None:
    uncond = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    assert guidance_alignment(uncond, uncond * torch.tensor([2.0, -1.0, 0.5])[:, None, None, None]).tolist() == pytest.approx(
        [1, -1, 1], rel=1e-5
    )


def test_too_short_a_schedule() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        Anisotropy(schedule_steps=2)
