"""Wen's score against loops."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from cxrguard.diffusion.sampling import ddim_scheduler, guided_trajectory
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_noise_norm import TextNoiseNorm, text_noise_norm


def norm_by_loop(a: Any, b: Any) -> float:
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)))


def test_norm_is_per_sample() -> None:
    text, uncond = torch.randn(2, 5, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    norms = text_noise_norm(text, uncond)
    assert norms.tolist() == pytest.approx([norm_by_loop(a, b) for a, b in zip(text, uncond, strict=True)], rel=1e-5)
    assert text_noise_norm(text[:1], uncond[:1]).tolist() == pytest.approx(norms[:1].tolist())
    assert text_noise_norm(text.half(), uncond.half()).dtype == torch.float32


def test_first_step_is_at_the_noisiest_timestep(denoiser: Any, batch: ProbeBatch) -> None:
    scores = TextNoiseNorm(steps=1, seeds=2)(denoiser, batch)
    assert denoiser.timesteps == [999] * 4  # a pair for each of two seeds
    # Pure noise at 999: Δε = x_T (mean of text − mean of uncond)
    want = [
        sum(abs(float(batch.encoder_hidden_states[i].mean()) - 0.1) * float(batch.noise(seed)[i].norm()) for seed in range(2)) / 2
        for i in range(4)
    ]
    assert scores.tolist() == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize(("steps", "seeds"), [(1, 1), (3, 2), (5, 1)])
def test_mean_over_steps_and_seeds_against_loops(denoiser: Any, batch: ProbeBatch, steps: int, seeds: int) -> None:
    probe = TextNoiseNorm(name="other", steps=steps, seeds=seeds, schedule_steps=5, guidance_scale=2.0)
    scores = probe(denoiser, batch)
    assert probe.name == "other" and probe.direction == "higher" and probe.evals_per_prompt == len(denoiser.timesteps)
    assert denoiser.timesteps == [t for t in (999, 799, 599, 399, 199)[:steps] for _ in range(2)] * seeds
    for i in range(4):
        total = 0.0
        for seed in range(seeds):
            rows = guided_trajectory(
                denoiser,
                ddim_scheduler(batch.scheduler_config, 5),
                batch.encoder_hidden_states[i : i + 1],
                batch.uncond_hidden_states,
                batch.noise(seed)[i : i + 1],
                2.0,
            )
            total += sum(norm_by_loop(text, uncond) for text, uncond, _ in list(rows)[:steps])
        assert float(scores[i]) == pytest.approx(total / steps / seeds, rel=1e-4)


def test_text_like_the_empty_prompt_scores_zero(denoiser: Any, batch: ProbeBatch) -> None:
    empty = replace(batch, encoder_hidden_states=batch.uncond_hidden_states.expand(4, -1, -1))
    assert TextNoiseNorm(steps=2)(denoiser, empty).tolist() == [0] * 4


def test_the_image_does_not_matter(denoiser: Any, batch: ProbeBatch) -> None:
    other = replace(batch, latents=torch.zeros_like(batch.latents))
    assert torch.equal(TextNoiseNorm(steps=2)(denoiser, batch), TextNoiseNorm(steps=2)(denoiser, other))


@pytest.mark.parametrize("steps", [0, -1, 51])
def test_steps_out_of_range(steps: int) -> None:
    with pytest.raises(ValueError, match="steps must be 1 to schedule_steps"):
        TextNoiseNorm(steps=steps)
