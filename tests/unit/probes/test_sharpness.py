"""Jeon's score against finite differences in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naive_probes import ALPHAS, combine, minus, norm
from torch import Tensor

from cxrguard.errors import ModelError
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.sharpness import Sharpness


def test_against_finite_differences(pair: Any) -> None:
    h, scale = 1e-4, 1 - ALPHAS[999]
    want = []
    for p in pair.prompts():
        total = 0.0
        for seed in range(2):
            x = p.noise(seed)
            score = [-d / scale**0.5 for d in p.difference(x, 999)]  # s_c − s_∅

            def scores(at: list[float], p: Any = p) -> list[float]:
                return [-d / scale**0.5 for d in p.difference(at, 999)]

            ahead, behind = scores(combine(1, x, h, score)), scores(combine(1, x, -h, score))
            total += norm([v / (2 * h) for v in minus(ahead, behind)])
        want.append(total / 2)
    probe = Sharpness(seeds=2)
    assert probe(pair.denoiser, pair.batch).tolist() == pytest.approx(want, rel=1e-4)
    assert probe.evals_per_prompt == 8 and probe.direction == "higher"


def test_linear_model_by_hand(denoiser: Any, batch: ProbeBatch) -> None:
    """ε = x w(c) + const: ∂Δε/∂x Δε = (w(c) − w(∅))² x."""
    weights = [float(s.mean()) - 0.1 for s in batch.encoder_hidden_states]
    want = [w * w * float(batch.noise(0)[i].norm()) / (1 - ALPHAS[999]) for i, w in enumerate(weights)]
    assert Sharpness(seeds=1)(denoiser, batch).tolist() == pytest.approx(want, rel=1e-4)


class NoDerivative(torch.autograd.Function):
    """An operation that has a backward pass only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * 2


def test_a_model_without_forward_mode_derivatives(denoiser: Any, batch: ProbeBatch) -> None:
    class Custom(type(denoiser)):  # type: ignore[misc]
        def predict_noise(self, latents: Tensor, *rest: Tensor) -> Any:
            return super().predict_noise(NoDerivative.apply(latents), *rest)

    with pytest.raises(ModelError, match="'sharpness' needs forward-mode derivatives.*Leave this detector out"):
        Sharpness()(Custom(), batch)


def test_a_kernel_without_forward_mode_derivatives(denoiser: Any, batch: ProbeBatch) -> None:
    class Custom(type(denoiser)):  # type: ignore[misc]
        def predict_noise(self, latents: Tensor, *rest: Tensor) -> Any:
            flat = latents.flatten(2)[:, None]
            attended = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(flat, flat, flat)[0]
            return super().predict_noise(attended.reshape(latents.shape), *rest)

    with pytest.raises(ModelError, match="needs forward-mode derivatives"):
        Sharpness()(Custom(), batch)


def test_other_errors_are_not_explained_away(denoiser: Any, batch: ProbeBatch) -> None:
    class Broken(type(denoiser)):  # type: ignore[misc]
        calls = 0

        def predict_noise(self, *args: Tensor) -> Any:
            Broken.calls += 1
            if Broken.calls > 2:  # under the derivative
                raise RuntimeError("out of memory")
            return super().predict_noise(*args)

    with pytest.raises(RuntimeError, match="out of memory"):
        Sharpness()(Broken(), batch)
