"""The published formulas once more: one sample at a time, float64, optimizers written out, straight from the UNet's raw output."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler
from tiny_unet import random_unet
from torch import Tensor

from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.mitigations.inference.base import Start
from cxrguard.probes.tokens import TokenLayout

SHAPE, TOKENS, FIRST = (4, 8, 8), 9, 999


@dataclass(frozen=True)
class Case:
    """A model and three samples; ``row`` picks one for the naive side."""

    prediction_type: str
    unet: Any
    denoiser: UNetDenoiser
    start: Start
    config: Any

    def eps(self, x: Tensor, row: int | None, t: int = FIRST) -> Tensor:
        """ε(x, t, c) of a row's text, of the empty prompt where it is None."""
        states = self.start.uncond_hidden_states if row is None else self.start.encoder_hidden_states[row : row + 1]
        return self.eps_of(x, states, t)

    def eps_of(self, x: Tensor, states: Tensor, t: int = FIRST) -> Tensor:
        out = self.unet(x[None], torch.tensor([t]), encoder_hidden_states=states, return_dict=False)[0][0]
        if self.prediction_type == "epsilon":
            return out
        bar = float(self.denoiser.alphas_cumprod[t])
        return math.sqrt(bar) * out + math.sqrt(1 - bar) * x

    def effect(self, x: Tensor, row: int) -> Tensor:
        return self.eps(x, row) - self.eps(x, None)


def case_of(prediction_type: str) -> Case:
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=prediction_type, clip_sample=False
    )
    unet = random_unet(1, 4).double()
    generator = torch.Generator().manual_seed(0)
    states, uncond = (torch.randn(n, TOKENS, 16, generator=generator, dtype=torch.float64) for n in (3, 1))
    noise = torch.randn(3, *SHAPE, generator=generator, dtype=torch.float64)
    layout = TokenLayout(torch.tensor([1, 1, 1]), torch.tensor([4, 7, 2]), TOKENS)
    denoiser = UNetDenoiser(unet, scheduler.alphas_cumprod.double(), prediction_type)
    return Case(prediction_type, unet, denoiser, Start(states, uncond, noise, layout), scheduler.config)


def norm(values: Tensor) -> Tensor:
    return (values * values).sum().sqrt()


def adam(x: Tensor, loss: Callable[[Tensor], Tensor], rate: float, steps: int, target: float, decay: float) -> tuple[Tensor, int]:
    """AdamW (Loshchilov and Hutter, algorithm 2) with PyTorch's constants; Adam for ``decay`` 0.

    Values, and how often the loss was taken.
    """
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    for step in range(1, steps + 1):
        x = x.detach().requires_grad_()
        value = loss(x)
        if float(value.detach()) <= target:
            return x.detach(), step
        (g,) = torch.autograd.grad(value, x)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
        moved = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        x = x.detach() * (1 - rate * decay) - rate * moved
    return x.detach(), steps
