"""Formulas against loops and against diffusers; draws as a function of what they are for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from cxrguard.diffusion.objective import (
    add_noise,
    draw_batch,
    drop_captions,
    gather_alpha_bar,
    min_snr_weight,
    per_sample_loss,
    rate_factor,
    training_target,
)

SHAPE = (2, 3, 3)


@pytest.fixture
def tensors() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents, noise = torch.randn(2, 4, *SHAPE, generator=generator)
    return latents, noise, torch.tensor([0.9991, 0.5, 0.0047, 0.2])


def by_loops(latents: Tensor, noise: Tensor, alpha_bar: Tensor, formula: str) -> np.ndarray:
    out = np.zeros(latents.shape)
    for index in np.ndindex(*latents.shape):
        x, e, a = float(latents[index]), float(noise[index]), float(alpha_bar[index[0]])
        out[index] = {"x_t": math.sqrt(a) * x + math.sqrt(1 - a) * e, "v": math.sqrt(a) * e - math.sqrt(1 - a) * x}[formula]
    return out


def test_add_noise_and_v_target_against_loops(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    np.testing.assert_allclose(add_noise(*tensors), by_loops(*tensors, "x_t"), atol=1e-6)
    np.testing.assert_allclose(training_target("v_prediction", *tensors), by_loops(*tensors, "v"), atol=1e-6)
    assert torch.equal(training_target("epsilon", *tensors), tensors[1])


def test_add_noise_and_v_target_against_diffusers(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, noise, _ = tensors
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    timesteps = torch.tensor([0, 3, 500, 999])
    alpha_bar = gather_alpha_bar(scheduler.alphas_cumprod, timesteps)
    assert alpha_bar.tolist() == [float(scheduler.alphas_cumprod[t]) for t in (0, 3, 500, 999)]
    assert torch.allclose(add_noise(latents, noise, alpha_bar), scheduler.add_noise(latents, noise, timesteps), atol=1e-6)
    velocity = scheduler.get_velocity(latents, noise, timesteps)
    assert torch.allclose(training_target("v_prediction", latents, noise, alpha_bar), velocity, atol=1e-6)


@pytest.mark.parametrize("prediction_type", ["sample", "flow", ""])
def test_other_prediction_types_are_refused(tensors: tuple[Tensor, Tensor, Tensor], prediction_type: str) -> None:
    with pytest.raises(ValueError, match="'epsilon' or 'v_prediction'"):
        training_target(prediction_type, *tensors)


def test_per_sample_loss_against_loops(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    a, b, _ = tensors
    want = [
        sum((x - y) ** 2 for x, y in zip(p, q, strict=True)) / len(p)
        for p, q in zip(a.flatten(1).tolist(), b.flatten(1).tolist(), strict=True)
    ]
    assert per_sample_loss(a, b).tolist() == pytest.approx(want, rel=1e-5)
    assert per_sample_loss(a[:1], b[:1])[0] == per_sample_loss(a, b)[0]  # no norm over the batch


def test_half_precision_losses_are_float32_and_do_not_overflow() -> None:
    a = torch.full((1, *SHAPE), 300.0, dtype=torch.float16)
    loss = per_sample_loss(a, -a)
    assert loss.dtype == torch.float32 and loss.item() == 360_000


def draws_of(ids: list[int], draws: list[int], seed: int = 0, epoch: int = 0, dropout: float = 0.5) -> list[tuple[list[float], int, bool]]:
    out = draw_batch(seed, epoch, ids, draws, SHAPE, 1000, dropout)
    return [(n.flatten().tolist(), int(t), bool(d)) for n, t, d in zip(out.noise, out.timesteps, out.drop, strict=True)]


def test_draws_do_not_depend_on_the_batch() -> None:
    ids, draws = [5, 9, 5, 0], [0, 0, 1, 2]
    whole = draws_of(ids, draws)
    assert draws_of(ids[::-1], draws[::-1]) == whole[::-1]
    assert [draws_of([i], [d])[0] for i, d in zip(ids, draws, strict=True)] == whole
    assert draws_of([5, 77, 9], [0, 1, 0])[::2] == whole[:2]


def test_draws_differ_by_seed_epoch_sample_and_draw() -> None:
    noises = [
        draws_of([1], [0])[0][0],
        draws_of([1], [0], seed=1)[0][0],
        draws_of([1], [0], epoch=1)[0][0],
        draws_of([1], [0], epoch=-1)[0][0],
        draws_of([2], [0])[0][0],
        draws_of([1], [1])[0][0],
        draws_of([0], [1])[0][0],
    ]
    assert len({tuple(n) for n in noises}) == len(noises)


def test_draws_leave_the_global_generators_alone() -> None:
    torch.manual_seed(3)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    first = draws_of([1, 2], [0, 0])
    assert torch.equal(torch.get_rng_state(), before) and (np.random.get_state()[1] == numpy_before).all()  # type: ignore[index]
    torch.manual_seed(4)
    assert draws_of([1, 2], [0, 0]) == first


def test_distribution_of_draws() -> None:
    n, share = 4000, 0.1
    out = draw_batch(0, 0, range(n), [0] * n, SHAPE, 1000, share)
    assert abs(out.drop.float().mean().item() - share) < 4 * math.sqrt(share * (1 - share) / n)
    assert 0 <= out.timesteps.min() < 10 and 990 <= out.timesteps.max() <= 999
    assert abs(out.timesteps.float().mean().item() - 499.5) < 4 * 288.7 / math.sqrt(n)
    assert abs(out.noise.mean().item()) < 0.02 and abs(out.noise.std().item() - 1) < 0.02
    # what is dropped says nothing about the timestep
    assert abs(out.timesteps[out.drop].float().mean().item() - 499.5) < 4 * 288.7 / math.sqrt(n * share)


@pytest.mark.parametrize(("share", "dropped"), [(0.0, 0), (1.0, 50)])
def test_dropout_at_its_ends_and_on_nothing_else(share: float, dropped: int) -> None:
    out = draw_batch(0, 0, range(50), [0] * 50, SHAPE, 1000, share)
    half = draw_batch(0, 0, range(50), [0] * 50, SHAPE, 1000, 0.5)
    assert int(out.drop.sum()) == dropped
    assert torch.equal(out.noise, half.noise) and torch.equal(out.timesteps, half.timesteps)


def test_dropped_captions_are_the_empty_prompts() -> None:
    states, uncond = torch.arange(24.0).reshape(3, 4, 2), torch.full((1, 4, 2), -1.0)
    out = drop_captions(states, uncond, torch.tensor([False, True, False]))
    assert torch.equal(out[1], uncond[0]) and torch.equal(out[[0, 2]], states[[0, 2]])


def test_ids_and_draws_must_match() -> None:
    with pytest.raises(ValueError, match="shorter"):
        draw_batch(0, 0, [1, 2], [0], SHAPE, 1000, 0.1)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.1), (4, 0.5), (9, 1.0), (500, 1.0)])
def test_rate_is_constant_after_the_warm_up(step: int, expected: float) -> None:
    assert rate_factor(step, warmup=10, decay=0) == pytest.approx(expected)


def test_rate_falls_to_zero_along_a_cosine() -> None:
    factors = [rate_factor(step, warmup=1, decay=100) for step in range(0, 140, 10)]
    assert factors[5] == pytest.approx(0.5)
    assert factors[:11] == sorted(factors[:11], reverse=True)
    assert factors[10:] == [pytest.approx(0.0, abs=1e-12)] * 4


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weight_is_the_papers(prediction_type: str, gamma: float) -> None:
    """Against a plain loop: min(SNR, γ)/SNR and min(SNR, γ)/(SNR + 1)."""
    alpha_bar = torch.tensor([0.999, 0.9, 0.5, 0.1, 0.001], dtype=torch.float64)
    expected = []
    for a in alpha_bar.tolist():
        snr = a / (1 - a)
        expected.append(min(snr, gamma) / (snr if prediction_type == "epsilon" else snr + 1))
    assert min_snr_weight(alpha_bar, gamma, prediction_type).tolist() == pytest.approx(expected, rel=1e-9)


def test_min_snr_weight_of_pure_noise_is_finite() -> None:
    nothing = torch.zeros(1)
    assert float(min_snr_weight(nothing, 5.0, "v_prediction")) == 0 and float(min_snr_weight(nothing, 5.0, "epsilon")) == 1


def test_offset_noise_shifts_whole_channels_and_nothing_else() -> None:
    plain = draw_batch(0, 1, [3, 4], [0, 0], (2, 4, 4), 1000, 0.1)
    offset = draw_batch(0, 1, [3, 4], [0, 0], (2, 4, 4), 1000, 0.1, offset_noise=0.5)
    assert torch.equal(plain.timesteps, offset.timesteps) and torch.equal(plain.drop, offset.drop)
    shift = offset.noise - plain.noise
    assert torch.allclose(shift, shift.mean(dim=(2, 3), keepdim=True).expand_as(shift), atol=1e-6) and float(shift.abs().max()) > 0
    many = draw_batch(0, 1, list(range(400)), [0] * 400, (2, 1, 1), 1000, 0.0, offset_noise=0.5)
    bare = draw_batch(0, 1, list(range(400)), [0] * 400, (2, 1, 1), 1000, 0.0)
    assert float((many.noise - bare.noise).std()) == pytest.approx(0.5, rel=0.1)
