"""DDIM against an implementation of its own, the direction of guidance, and the schedule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, PNDMScheduler
from torch import Tensor

from cxrguard.diffusion.sampling import Sampler, ddim_scheduler, guided_trajectory

CONFIG = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False).config
ALPHAS = DDPMScheduler.from_config(CONFIG).alphas_cumprod


class FakeDenoiser:
    """Speaks noise; the text's mean and the timestep decide how much of the image is noise."""

    prediction_type = "epsilon"
    alphas_cumprod = ALPHAS

    def __init__(self) -> None:
        self.timesteps: list[list[int]] = []

    def predict_noise(self, latents: Tensor, timesteps: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        weight = encoder_hidden_states.mean(dim=(1, 2)) + timesteps / 5000
        return torch.tanh(latents * weight[:, None, None, None])

    def predict_noise_pair(self, latents: Tensor, timesteps: Tensor, encoder_hidden_states: Tensor, uncond_hidden_states: Tensor) -> Any:
        self.timesteps.append(timesteps.tolist())
        uncond = uncond_hidden_states.expand_as(encoder_hidden_states)
        return self.predict_noise(latents, timesteps, encoder_hidden_states), self.predict_noise(latents, timesteps, uncond)


def naive_ddim(states: Tensor, latents: Tensor, steps: int) -> Tensor:
    """Song et al. 2021, eq. 12, η = 0, one condition, in float64."""
    x = latents.double()
    for i in range(steps):
        t = round(1000 - i * 1000 / steps) - 1
        previous = t - 1000 // steps
        a, a_prev = ALPHAS[t].double(), ALPHAS[max(previous, 0)].double()
        noise = FakeDenoiser().predict_noise(x, torch.full((len(x),), t), states.double())
        x = a_prev.sqrt() * (x - (1 - a).sqrt() * noise) / a.sqrt() + (1 - a_prev).sqrt() * noise
    return x


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.rand(5, 3, 4, generator=generator), -torch.rand(1, 3, 4, generator=generator), torch.randn(5, 1, 2, 2, generator=generator)


def sample(inputs: tuple[Tensor, Tensor, Tensor], **settings: Any) -> Tensor:
    states, uncond, noise = inputs
    return Sampler(CONFIG, **settings)(FakeDenoiser(), states, uncond, noise)


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_guidance_one_is_the_text_and_zero_the_unconditional(inputs: tuple[Tensor, Tensor, Tensor], steps: int) -> None:
    states, uncond, noise = inputs
    text = naive_ddim(states, noise, steps)
    empty = naive_ddim(uncond.expand_as(states), noise, steps)
    assert torch.allclose(sample(inputs, steps=steps, guidance_scale=1.0).double(), text, atol=1e-4)
    assert torch.allclose(sample(inputs, steps=steps, guidance_scale=0.0).double(), empty, atol=1e-4)
    assert not torch.allclose(text, empty, atol=1e-2)


def test_guidance_goes_beyond_the_text(inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    unguided, text, guided = (sample(inputs, steps=1, guidance_scale=s) for s in (0.0, 1.0, 3.0))
    assert torch.allclose(guided - unguided, 3 * (text - unguided), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 20, 50])
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_first_step_is_the_noisiest_whatever_the_pipeline_says(steps: int, spacing: str) -> None:
    config = dict(CONFIG) | {"timestep_spacing": spacing, "steps_offset": 1, "clip_sample": True}
    timesteps = ddim_scheduler(config, steps).timesteps.tolist()
    assert timesteps == [round(1000 - i * 1000 / steps) - 1 for i in range(steps)]
    assert timesteps[0] == 999


def test_any_schedulers_config_will_do(inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    pndm = PNDMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True).config
    states, uncond, noise = inputs
    out = Sampler(pndm, steps=3)(FakeDenoiser(), states, uncond, noise)
    assert torch.equal(out, sample(inputs, steps=3))


def test_trajectory_yields_text_uncond_and_the_next_latents(inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    states, uncond, noise = inputs
    denoiser = FakeDenoiser()
    rows = list(guided_trajectory(denoiser, ddim_scheduler(CONFIG, 4), states, uncond, noise, 3.0))
    assert denoiser.timesteps == [[t] * 5 for t in (999, 749, 499, 249)]
    latents = noise
    for (text, empty, following), t in zip(rows, (999, 749, 499, 249), strict=True):
        timesteps = torch.full((5,), t)
        assert torch.equal(text, denoiser.predict_noise(latents, timesteps, states))
        assert torch.equal(empty, denoiser.predict_noise(latents, timesteps, uncond.expand_as(states)))
        latents = following
    assert torch.equal(latents, sample(inputs, steps=4, guidance_scale=3.0))


def test_batch_size_changes_nothing_and_progress_counts(inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    states, uncond, noise = inputs
    done: list[int] = []
    parts = Sampler(CONFIG, steps=3, batch_size=2)(FakeDenoiser(), states, uncond, noise, done.append)
    assert torch.allclose(parts, sample(inputs, steps=3), atol=1e-6) and done == [2, 2, 1]


def test_nothing_to_sample(inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    states, uncond, noise = inputs
    assert Sampler(CONFIG, steps=2)(FakeDenoiser(), states[:0], uncond, noise[:0]).shape == (0, 1, 2, 2)


def test_the_callers_config_is_left_alone() -> None:
    config = DDPMScheduler(prediction_type="v_prediction").config
    states, noise = torch.zeros(1, 2, 2), torch.zeros(1, 1, 2, 2)
    Sampler(config, steps=2)(FakeDenoiser(), states, states, noise)
    assert config["prediction_type"] == "v_prediction" and config["clip_sample"] is True
