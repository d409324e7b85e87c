"""The loss attack against loops."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from naive_probes import ALPHAS, combine, minus, norm
from torch import Tensor

from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.denoising_loss import DenoisingLoss


def test_against_loops(denoiser: Any, batch: ProbeBatch) -> None:
    probe = DenoisingLoss(timesteps=[50, 900], seeds=2)
    scores = probe(denoiser, batch)
    assert sorted(denoiser.timesteps) == [50, 50, 900, 900] and probe.evals_per_prompt == 4 and probe.direction == "lower"
    for i in range(4):
        total = 0.0
        for t in (50, 900):
            for seed in range(2):
                a, noise, latents = float(denoiser.alphas_cumprod[t]), batch.noise(1000 * (seed + 1) + t)[i], batch.latents[i]
                weight = float(batch.encoder_hidden_states[i].mean())
                pixels = zip(latents.flatten().tolist(), noise.flatten().tolist(), strict=True)
                errors = [((a**0.5 * x + (1 - a) ** 0.5 * e) * weight + t / 1000 - e) ** 2 for x, e in pixels]
                total += sum(errors) / len(errors)
        assert float(scores[i]) == pytest.approx(total / 4, rel=1e-4)


def test_a_model_that_knows_the_image_scores_lower(batch: ProbeBatch) -> None:
    """The exact noise of the first image, and guesses for the others."""

    class Knows:
        prediction_type = "epsilon"
        alphas_cumprod = torch.linspace(0.999, 0.01, 1000)

        def predict_noise(self, latents: Tensor, timesteps: Tensor, encoder_hidden_states: Tensor) -> Tensor:
            a = self.alphas_cumprod[timesteps][:, None, None, None]
            return (latents - a.sqrt() * batch.latents[:1]) / (1 - a).sqrt()

    scores = DenoisingLoss()(Knows(), batch)  # type: ignore[arg-type]
    assert scores[0] < 1e-6 < scores[1:].min()


def test_noises_of_timesteps_and_seeds_are_all_different(batch: ProbeBatch) -> None:
    probe = DenoisingLoss()
    draws = [1000 * (seed + 1) + t for t in probe.timesteps for seed in range(probe.seeds)]
    noises = {tuple(batch.noise(d)[0].flatten().tolist()) for d in [*draws, 0, 1, 2, 3]}
    assert len(noises) == len(draws) + 4  # and none is the text probe's


def test_nothing_but_its_own_image_and_text(denoiser: Any, batch: ProbeBatch) -> None:
    scores = DenoisingLoss()(denoiser, batch)
    mixed = replace(batch, latents=batch.latents * torch.tensor([1.0, 2.0, 2.0, 2.0])[:, None, None, None])
    changed = DenoisingLoss()(denoiser, mixed)
    assert changed[0] == scores[0] and not torch.isclose(changed[1:], scores[1:]).any()


def test_real_model_against_loops(pair: Any) -> None:
    want = []
    for p in pair.prompts():
        losses = []
        for t in (50, 900):
            for seed in (1, 2):
                noise = p.noise(1000 * seed + t)
                noisy = combine(math.sqrt(ALPHAS[t]), p.image, math.sqrt(1 - ALPHAS[t]), noise)
                losses.append(norm(minus(p.text(noisy, t), noise)) ** 2 / len(noise))
        want.append(sum(losses) / 4)
    assert DenoisingLoss(timesteps=[50, 900], seeds=2)(pair.denoiser, pair.batch).tolist() == pytest.approx(want, rel=1e-4)
