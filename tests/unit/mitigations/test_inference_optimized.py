"""Embedding and noise, each sample against the formula written out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from naive_inference import SHAPE, Case, adam, case_of, norm

from cxrguard.mitigations.inference.base import SD_NUMEL, for_latents
from cxrguard.mitigations.inference.embedding_optimization import EmbeddingOptimization
from cxrguard.mitigations.inference.initial_noise import InitialNoise
from cxrguard.mitigations.inference.initial_noise_per_sample import InitialNoisePerSample
from cxrguard.mitigations.inference.minimize import minimize_each
from cxrguard.mitigations.inference.sail import Sail

RATIO = math.sqrt(4 * 8 * 8 / 16384)


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(request.param)


def between(case: Case) -> float:
    """A norm that one sample is already under and another is not."""
    norms = sorted(float(norm(case.effect(x, i)).detach()) for i, x in enumerate(case.start.noise))
    return (norms[0] + norms[1]) / 2


def near(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_embedding_optimization(case: Case) -> None:
    target = between(case)
    ready, evaluations = EmbeddingOptimization(iterations=4, target=target).prepare(case.denoiser, case.start, 999)
    taken = []
    for i, x in enumerate(case.start.noise):
        bos, rest = case.start.encoder_hidden_states[i, :1], case.start.encoder_hidden_states[i, 1:]
        uncond = case.eps(x, None).detach()
        found, n = adam(rest, lambda e, x=x, bos=bos, u=uncond: norm(case.eps_of(x, torch.cat([bos, e])[None]) - u), 0.05, 4, target, 0.01)
        near(ready.encoder_hidden_states[i], torch.cat([bos, found]))
        taken.append(1 + n)
    assert evaluations.tolist() == taken and min(taken) == 2 < max(taken)
    assert torch.equal(ready.encoder_hidden_states[:, 0], case.start.encoder_hidden_states[:, 0])
    assert torch.equal(ready.noise, case.start.noise)


def test_embedding_optimization_lowers_what_it_is_to_lower(case: Case) -> None:
    ready, _ = EmbeddingOptimization(target=0.0).prepare(case.denoiser, case.start, 999)
    for i, x in enumerate(case.start.noise):
        after = norm(case.eps_of(x, ready.encoder_hidden_states[i : i + 1]) - case.eps(x, None))
        assert float(after.detach()) < 0.9 * float(norm(case.effect(x, i)).detach())


def test_noise_per_sample(case: Case) -> None:
    target = between(case)
    ready, evaluations = InitialNoisePerSample(iterations=3, target=target).prepare(case.denoiser, case.start, 999)
    taken = []
    for i, x in enumerate(case.start.noise):
        found, n = adam(x, lambda y, i=i: norm(case.effect(y, i)), 0.01, 3, target, 0.01)
        near(ready.noise[i], found)
        taken.append(2 * n)
    assert evaluations.tolist() == taken and min(taken) == 2 < max(taken) == 6


@pytest.mark.parametrize("step", [None, 1.0])
def test_sail(case: Case, step: float | None) -> None:
    ready, evaluations = Sail(iterations=3, target=0.0, step=step).prepare(case.denoiser, case.start, 999)
    length = RATIO if step is None else step
    for i, x in enumerate(case.start.noise):

        def loss(y: torch.Tensor, i: int = i) -> torch.Tensor:
            effect = case.effect(y, i)
            return norm(case.effect(y + length * effect / norm(effect), i)) + 0.05 * norm(y)

        near(ready.noise[i], adam(x, loss, 0.05, 3, 0.0, 0.0)[0])
    assert evaluations.tolist() == [12] * 3


def test_sail_stops_at_its_target(case: Case) -> None:
    ready, evaluations = Sail(target=1e6).prepare(case.denoiser, case.start, 999)
    assert evaluations.tolist() == [4] * 3 and torch.equal(ready.noise, case.start.noise)


@pytest.mark.parametrize(("rho", "length"), [(None, 50 * RATIO), (3.0, 3.0)])
def test_initial_noise(case: Case, rho: float | None, length: float) -> None:
    ready, evaluations = InitialNoise(rho=rho).prepare(case.denoiser, case.start, 999)
    with torch.no_grad():
        for i, x in enumerate(case.start.noise):
            for _ in range(2):
                here = case.effect(x, i)
                x = x - 0.7 * (case.effect(x + length * here / norm(here), i) - here)
            near(ready.noise[i], x)
    assert evaluations.tolist() == [8] * 3


def test_a_prompt_that_steers_nothing_stays_finite(case: Case) -> None:
    same = replace(case.start, encoder_hidden_states=case.start.uncond_hidden_states.expand(3, -1, -1))
    for mitigation in (InitialNoise(), Sail(iterations=2, target=0.0), InitialNoisePerSample(iterations=2, target=-1.0)):
        assert mitigation.prepare(case.denoiser, same, 999)[0].noise.isfinite().all()


def test_no_weight_gets_a_gradient(case: Case) -> None:
    EmbeddingOptimization(iterations=2, target=0.0).prepare(case.denoiser, case.start, 999)
    assert all(p.grad is None for p in case.unet.parameters())


def test_published_lengths_keep_their_root_mean_square() -> None:
    assert for_latents(3.0, torch.zeros(2, 4, 64, 64)) == 3.0
    for shape in ((1, *SHAPE), (2, 3, 8, 12)):
        noise = torch.zeros(shape)
        assert for_latents(0.9, noise) / math.sqrt(noise[0].numel()) == pytest.approx(0.9 / math.sqrt(SD_NUMEL))


def test_one_that_has_stopped_is_left_alone() -> None:
    """Neither momentum nor weight decay moves it, and its loss is not asked for again."""
    asked: list[list[int]] = []

    def loss(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        asked.append(rows.tolist())
        return values.abs().sum(dim=1)

    start = torch.tensor([[1.05, 1.05], [9.0, 9.0], [1.0, 0.5]])
    values, evaluated = minimize_each(start, loss, lambda v: torch.optim.AdamW(v, lr=0.1, weight_decay=0.5), 2.0, 4)
    assert asked == [[0, 1, 2], [0, 1], [1], [1]] and evaluated.tolist() == [2, 4, 1]
    assert torch.equal(values[2], start[2]) and values[0].sum() <= 2.0 < start[0].sum()
    alone, _ = minimize_each(start[:1], lambda v, r: v.abs().sum(dim=1), lambda v: torch.optim.AdamW(v, lr=0.1, weight_decay=0.5), 2.0, 4)
    assert torch.equal(values[:1], alone)
