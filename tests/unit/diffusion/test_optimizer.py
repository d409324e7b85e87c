"""AdamW in one pass over the weights is AdamW."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import Parameter

from cxrguard.diffusion.optimizer import build_optimizer

RATE, DECAY, BETAS, EPSILON = 1e-2, 0.1, (0.9, 0.999), 1e-8


def naive(start: list[float], gradients: list[list[float]]) -> list[float]:
    """Loshchilov and Hutter 2019, algorithm 2, number by number."""
    weights, first, second = list(start), [0.0] * len(start), [0.0] * len(start)
    for step, gradient in enumerate(gradients, start=1):
        for i, g in enumerate(gradient):
            first[i] = BETAS[0] * first[i] + (1 - BETAS[0]) * g
            second[i] = BETAS[1] * second[i] + (1 - BETAS[1]) * g * g
            mean, square = first[i] / (1 - BETAS[0] ** step), second[i] / (1 - BETAS[1] ** step)
            weights[i] -= RATE * DECAY * weights[i] + RATE * mean / (math.sqrt(square) + EPSILON)
    return weights


@pytest.mark.parametrize("fused", [True, False])
def test_it_is_adamw(fused: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    start, gradients = torch.randn(7, generator=generator), torch.randn(12, 7, generator=generator)
    weights = Parameter(start.clone())
    optimizer = build_optimizer("adamw", [weights], RATE, DECAY, fused)
    for gradient in gradients:
        weights.grad = gradient.clone()
        optimizer.step()
    assert torch.allclose(weights, torch.tensor(naive(start.tolist(), gradients.tolist())), rtol=1e-5, atol=1e-6)
    assert optimizer.defaults["fused"] is (True if fused else None)
