"""The published formulas once more, one sample at a time, in float64 and plain loops, straight from the UNet's raw output."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler
from tiny_unet import random_unet
from torch import Tensor

from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.probes.batch import ProbeBatch

SCHEDULER = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
ALPHAS = [float(a) for a in SCHEDULER.alphas_cumprod]
Values = list[float]


def norm(values: Values) -> float:
    return math.sqrt(sum(v * v for v in values))


def minus(a: Values, b: Values) -> Values:
    return [x - y for x, y in zip(a, b, strict=True)]


def combine(p: float, a: Values, q: float, b: Values) -> Values:
    return [p * x + q * y for x, y in zip(a, b, strict=True)]


def trailing(steps: int) -> list[int]:
    """Trailing-spaced timesteps of a schedule of 1,000."""
    return [round(1000 - i * 1000 / steps) - 1 for i in range(steps)]


@dataclass(frozen=True)
class Naive:
    """One prompt and one model."""

    unet: Any
    prediction_type: str
    batch: ProbeBatch
    row: int

    @property
    def image(self) -> Values:
        return [float(v) for v in self.batch.latents[self.row].flatten()]

    def noise(self, draw: int) -> Values:
        return [float(v) for v in self.batch.noise(draw)[self.row].flatten()]

    def text(self, x: Values, t: int) -> Values:
        """ε(x, t, c)."""
        return self._eps(x, t, self.batch.encoder_hidden_states[self.row])

    def uncond(self, x: Values, t: int) -> Values:
        """ε(x, t, ∅)."""
        return self._eps(x, t, self.batch.uncond_hidden_states[0])

    def difference(self, x: Values, t: int) -> Values:
        return minus(self.text(x, t), self.uncond(x, t))

    def guided_step(self, x: Values, t: int, steps: int, guidance: float) -> Values:
        """One DDIM step of a schedule of ``steps``."""
        text, uncond = self.text(x, t), self.uncond(x, t)
        return self.move(x, combine(guidance, text, 1 - guidance, uncond), t, max(t - 1000 // steps, 0))

    @staticmethod
    def move(x: Values, eps: Values, start: int, end: int) -> Values:
        """Deterministic DDIM from timestep ``start`` to ``end``."""
        a, b = ALPHAS[start], ALPHAS[end]
        image = [(v - math.sqrt(1 - a) * e) / math.sqrt(a) for v, e in zip(x, eps, strict=True)]
        return combine(math.sqrt(b), image, math.sqrt(1 - b), eps)

    def _eps(self, x: Values, t: int, states: Tensor) -> Values:
        latents = torch.tensor(x, dtype=torch.float64).reshape(1, *self.batch.latents.shape[1:])
        with torch.no_grad():
            out = self.unet(latents, torch.tensor([t]), encoder_hidden_states=states[None].double(), return_dict=False)[0]
        raw = [float(v) for v in out.flatten()]
        if self.prediction_type == "epsilon":
            return raw
        return combine(math.sqrt(ALPHAS[t]), raw, math.sqrt(1 - ALPHAS[t]), x)


@dataclass(frozen=True)
class Pair:
    """A model and its base as the probes get them, and as the loops do."""

    denoiser: UNetDenoiser
    batch: ProbeBatch
    unets: tuple[Any, Any]

    def prompts(self) -> list[Naive]:
        return [Naive(self.unets[0], self.denoiser.prediction_type, self.batch, row) for row in range(len(self.batch.keys))]

    def base_prompts(self) -> list[Naive]:
        return [Naive(self.unets[1], self.denoiser.prediction_type, self.batch, row) for row in range(len(self.batch.keys))]


def make_pair(prediction_type: str) -> Pair:
    """Two prompts of an uncommon size."""
    unets = tuple(random_unet(seed, 3, width=8, text_width=6) for seed in (1, 2))
    denoiser, base = (UNetDenoiser(unet, SCHEDULER.alphas_cumprod, prediction_type) for unet in unets)
    generator = torch.Generator().manual_seed(3)
    states, uncond = torch.randn(2, 9, 6, generator=generator), torch.randn(1, 9, 6, generator=generator)
    latents = torch.randn(2, 3, 4, 8, generator=generator)
    batch = ProbeBatch(states, uncond, latents, ("a", "b"), 7, SCHEDULER.config, base)
    return Pair(denoiser, batch, tuple(copy.deepcopy(unet).double() for unet in unets))  # type: ignore[arg-type]
