"""Both prediction types speak noise; pairs come in diffusers' order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cxrguard.diffusion.denoiser import UNetDenoiser, velocity_to_noise
from cxrguard.diffusion.loading import PipelineParts
from cxrguard.diffusion.objective import add_noise, training_target

ALPHAS = torch.linspace(0.999, 0.004, 1000)


class FakeUNet:
    """Text times noisy image plus timestep; remembers what it was called with."""

    def __init__(self) -> None:
        self.states: list[Tensor] = []

    def __call__(self, latents: Tensor, timesteps: Tensor, *, encoder_hidden_states: Tensor, return_dict: bool) -> tuple[Any, ...]:
        assert not return_dict
        self.states.append(encoder_hidden_states)
        return (latents * encoder_hidden_states.mean(dim=(1, 2))[:, None, None, None] + timesteps[:, None, None, None] / 1000,)


def test_v_to_noise_round_trip() -> None:
    latents, noise = torch.randn(2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alpha_bar = torch.tensor([0.9999, 0.7, 0.5, 0.03, 0.0], dtype=torch.float64)
    noisy = add_noise(latents, noise, alpha_bar)
    velocity = training_target("v_prediction", latents, noise, alpha_bar)
    assert torch.allclose(velocity_to_noise(velocity, noisy, alpha_bar), noise, atol=1e-12)


def test_prediction_types() -> None:
    unet, latents, timesteps = FakeUNet(), torch.randn(2, 1, 2, 2), torch.tensor([10, 900])
    states = torch.randn(2, 3, 4)
    raw = unet(latents, timesteps, encoder_hidden_states=states, return_dict=False)[0]
    assert torch.equal(UNetDenoiser(unet, ALPHAS, "epsilon").predict_noise(latents, timesteps, states), raw)
    out = UNetDenoiser(unet, ALPHAS, "v_prediction").predict_noise(latents, timesteps, states)
    for i, t in enumerate((10, 900)):
        a = float(ALPHAS[t])
        assert torch.allclose(out[i], a**0.5 * raw[i] + (1 - a) ** 0.5 * latents[i], atol=1e-6)
    with pytest.raises(ValueError, match="'sample'"):
        UNetDenoiser(unet, ALPHAS, "sample")


def test_pair_is_text_first_and_the_model_sees_uncond_first() -> None:
    unet = FakeUNet()
    denoiser = UNetDenoiser(unet, ALPHAS, "epsilon")
    latents, timesteps, text, uncond = torch.ones(2, 1, 2, 2), torch.tensor([0, 0]), torch.full((2, 3, 4), 5.0), torch.full((1, 3, 4), -1.0)
    noise_pred_text, noise_pred_uncond = denoiser.predict_noise_pair(latents, timesteps, text, uncond)
    assert noise_pred_text.unique().tolist() == [5.0] and noise_pred_uncond.unique().tolist() == [-1.0]
    assert torch.equal(unet.states[0], torch.cat([uncond.expand(2, -1, -1), text]))


def test_pair_equals_two_calls(parts: PipelineParts) -> None:
    denoiser = UNetDenoiser(parts.unet.eval(), parts.alphas_cumprod, parts.prediction_type)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(3, parts.unet.config.in_channels, 8, 8, generator=generator)
    states, uncond = torch.randn(3, 7, 16, generator=generator), torch.randn(1, 7, 16, generator=generator)
    timesteps = torch.tensor([999, 500, 1])
    with torch.no_grad():
        pair = denoiser.predict_noise_pair(latents, timesteps, states, uncond)
        assert torch.allclose(pair[0], denoiser.predict_noise(latents, timesteps, states), atol=1e-5)
        assert torch.allclose(pair[1], denoiser.predict_noise(latents, timesteps, uncond.expand(3, -1, -1)), atol=1e-5)
    assert not torch.allclose(pair[0], pair[1], atol=1e-5)
