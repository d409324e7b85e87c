"""Wen's score against loops."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from naive_probes import norm, trailing

from cxrguard.diffusion.sampling import ddim_scheduler, guided_trajectory
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_noise_norm import TextNoiseNorm, text_noise_norm, text_noise_norm_rms


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


@pytest.mark.parametrize("arguments", [{"steps": 3}, {"at": [0, 2]}, {"at": [1]}])
@pytest.mark.parametrize("rms", [False, True])
def test_real_model_against_loops(pair: Any, arguments: Any, rms: bool) -> None:
    probe = TextNoiseNorm(**arguments, seeds=2, schedule_steps=10, guidance_scale=3.0, rms=rms)
    places = arguments.get("at", [0, 1, 2])
    want = []
    for p in pair.prompts():
        norms = []
        for seed in range(2):
            x = p.noise(seed)
            for place, t in enumerate(trailing(10)[: max(places) + 1]):
                if place in places:
                    norms.append(norm(p.difference(x, t)))
                x = p.guided_step(x, t, 10, 3.0)
        want.append(sum(norms) / len(norms) / (math.sqrt(3 * 4 * 8) if rms else 1))
    assert probe(pair.denoiser, pair.batch).tolist() == pytest.approx(want, rel=1e-4)


def test_places_on_the_trajectory(denoiser: Any, batch: ProbeBatch) -> None:
    probe = TextNoiseNorm(at=[3, 1, 3], seeds=2, schedule_steps=5)
    scores = probe(denoiser, batch)
    assert denoiser.timesteps == [t for t in (999, 799, 599, 399) for _ in range(2)] * 2  # no step after the last place
    assert probe.evals_per_prompt == len(denoiser.timesteps) == 16
    sums = [TextNoiseNorm(steps=n, seeds=2, schedule_steps=5)(denoiser, batch) * n for n in (1, 2, 3, 4)]
    assert torch.allclose(scores, (sums[1] - sums[0] + sums[3] - sums[2]) / 2, rtol=1e-4)
    assert torch.equal(TextNoiseNorm(at=[0, 1])(denoiser, batch), TextNoiseNorm(steps=2)(denoiser, batch))


def test_rms_does_not_grow_with_the_latents() -> None:
    text, uncond = torch.randn(2, 5, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    rms = text_noise_norm_rms(text, uncond)
    assert rms.tolist() == pytest.approx([norm_by_loop(a, b) / math.sqrt(24) for a, b in zip(text, uncond, strict=True)], rel=1e-5)
    tiled = [x.repeat(1, 2, 3, 4) for x in (text, uncond)]
    assert torch.allclose(text_noise_norm_rms(*tiled), rms)
    assert torch.allclose(text_noise_norm(*tiled), text_noise_norm(text, uncond) * math.sqrt(24))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"at": [50]}, r"places 0 to schedule_steps - 1 \(49\), not \[50\]"),
        ({"at": [-1]}, "places 0 to"),
        ({"at": []}, "places 0 to"),
        ({"at": [1], "steps": 2}, "not both"),
        ({"seeds": 0}, "seeds must be at least 1"),
    ],
)
def test_bad_arguments(arguments: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TextNoiseNorm(**arguments)
