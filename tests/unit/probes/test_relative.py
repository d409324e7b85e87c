"""A detector against itself on the base checkpoint."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from naive_probes import norm
from torch import Tensor

from cxrguard.errors import BadInputError
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.denoising_loss import DenoisingLoss
from cxrguard.probes.noise_consistency import NoiseConsistency
from cxrguard.probes.pure_noise import PureNoiseNorm
from cxrguard.probes.relative import RelativeToBase

BY_HAND = {"difference": lambda s, b: s - b, "ratio": lambda s, b: s / b, "log_ratio": lambda s, b: math.log(s / b)}


@pytest.mark.parametrize("mode", BY_HAND)
def test_against_loops(pair: Any, mode: str) -> None:
    probe = RelativeToBase(probe=PureNoiseNorm(timesteps=[600], seeds=2), mode=mode)
    means = [[sum(norm(p.difference(p.noise(s), 600)) for s in range(2)) / 2 for p in ps] for ps in (pair.prompts(), pair.base_prompts())]
    want = [BY_HAND[mode](s, b) for s, b in zip(*means, strict=True)]
    assert probe(pair.denoiser, pair.batch).tolist() == pytest.approx(want, rel=1e-4)


def test_denoising_loss_against_loops(pair: Any) -> None:
    probe = RelativeToBase(probe=DenoisingLoss(timesteps=[200], seeds=1), mode="difference")
    alpha = float(pair.denoiser.alphas_cumprod[200])

    def loss(p: Any) -> float:
        noise = p.noise(1200)
        x = [math.sqrt(alpha) * a + math.sqrt(1 - alpha) * e for a, e in zip(p.image, noise, strict=True)]
        return sum((a - e) ** 2 for a, e in zip(p.text(x, 200), noise, strict=True)) / len(noise)

    want = [loss(p) - loss(b) for p, b in zip(pair.prompts(), pair.base_prompts(), strict=True)]
    assert probe(pair.denoiser, pair.batch).tolist() == pytest.approx(want, rel=1e-4)


def test_name_direction_and_cost_are_the_inner_probes() -> None:
    inner = DenoisingLoss(timesteps=[1, 2, 3], seeds=2)
    probe = RelativeToBase(probe=inner)
    assert probe.name == "denoising_loss_relative" and probe.direction == "lower" and probe.evals_per_prompt == 12
    assert RelativeToBase(probe=inner, name="other").name == "other"


@pytest.mark.parametrize(("mode", "neutral"), [("difference", 0.0), ("ratio", 1.0), ("log_ratio", 0.0)])
def test_the_base_itself_scores_nothing(pair: Any, mode: str, neutral: float) -> None:
    same = replace(pair.batch, base=pair.denoiser)
    assert RelativeToBase(probe=PureNoiseNorm(seeds=1), mode=mode)(pair.denoiser, same).tolist() == [neutral] * 2
    # the empty prompt, where both scores are zero
    empty = replace(same, encoder_hidden_states=same.uncond_hidden_states.expand(2, -1, -1))
    scores = RelativeToBase(probe=PureNoiseNorm(seeds=1), mode=mode)(pair.denoiser, empty)
    assert scores.isfinite().all()


def test_no_base(denoiser: Any, batch: ProbeBatch) -> None:
    with pytest.raises(BadInputError, match=r"'pure_noise_norm_relative' compares with the base checkpoint.*or leave this detector out"):
        RelativeToBase(probe=PureNoiseNorm())(denoiser, batch)


def test_no_such_mode() -> None:
    with pytest.raises(ValueError, match="mode must be one of difference, ratio, log_ratio, not 'quotient'"):
        RelativeToBase(probe=PureNoiseNorm(), mode="quotient")


def test_no_ratio_of_scores_below_zero(denoiser: Any, batch: ProbeBatch) -> None:
    class Negative(NoiseConsistency):
        def __call__(self, denoiser: Any, batch: ProbeBatch) -> Tensor:
            return torch.tensor([-1.0, 1.0])

    with pytest.raises(ValueError, match="use mode 'difference'"):
        RelativeToBase(probe=Negative(), mode="ratio")(denoiser, replace(batch, base=denoiser))


def test_images_are_needed_where_the_inner_probe_needs_them() -> None:
    assert RelativeToBase(probe=DenoisingLoss()).needs_images and not RelativeToBase(probe=PureNoiseNorm()).needs_images
