"""A denoiser whose scores can be worked out by hand."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from cxrguard.probes.batch import ProbeBatch

SCHEDULER = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)


class FakeDenoiser:
    """ε = x_t · the text's mean + t / 1000; counts evaluations, remembers timesteps."""

    prediction_type = "epsilon"
    alphas_cumprod = SCHEDULER.alphas_cumprod

    def __init__(self) -> None:
        self.timesteps: list[int] = []

    def contiguous_layout(self) -> AbstractContextManager[None]:
        return nullcontext()

    def predict_noise(self, latents: Tensor, timesteps: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        self.timesteps.append(int(timesteps[0]))
        return latents * encoder_hidden_states.mean(dim=(1, 2))[:, None, None, None] + timesteps[:, None, None, None] / 1000

    def predict_noise_pair(self, latents: Tensor, timesteps: Tensor, encoder_hidden_states: Tensor, uncond_hidden_states: Tensor) -> Any:
        uncond = uncond_hidden_states.expand_as(encoder_hidden_states)
        return self.predict_noise(latents, timesteps, encoder_hidden_states), self.predict_noise(latents, timesteps, uncond)


@pytest.fixture
def denoiser() -> FakeDenoiser:
    return FakeDenoiser()


@pytest.fixture
def batch() -> ProbeBatch:
    generator = torch.Generator().manual_seed(0)
    states, latents = torch.rand(4, 3, 5, generator=generator), torch.randn(4, 2, 3, 3, generator=generator)
    return ProbeBatch(states, torch.full((1, 3, 5), 0.1), latents, ("a", "b", "c", "d"), 7, SCHEDULER.config)


@pytest.fixture(scope="session", params=["epsilon", "v_prediction"])
def pair(request: pytest.FixtureRequest) -> Any:
    """A real tiny model and its base, of either prediction type, with the loops to check against."""
    from naive_probes import make_pair

    return make_pair(request.param)


@pytest.fixture(scope="session", params=["clip", "bert"])
def tokens(request: pytest.FixtureRequest) -> Any:
    """Where the tokens of two prompts lie when a real tokenizer pads to the nine tokens of ``pair``; the second is cut."""
    from transformers import AutoTokenizer

    from cxrguard.diffusion.encoding import token_layout

    directory = request.getfixturevalue("pipeline_dir" if request.param == "clip" else "v_pipeline_dir")
    tokenizer = AutoTokenizer.from_pretrained(directory / "tokenizer", model_max_length=9, local_files_only=True)
    layout = token_layout(tokenizer, ["effusion", "effusion " * 20])
    assert layout.end.tolist()[1] == 8 > layout.end.tolist()[0] and layout.length == 9
    return layout
