"""Proximal initialization against loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from naive_probes import ALPHAS, combine

from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.pia import Pia


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("p", [4.0, 2.0])
def test_against_loops(pair: Any, normalize: bool, p: float) -> None:
    probe = Pia(timesteps=[200, 500], p=p, normalize=normalize)
    want = []
    for prompt in pair.prompts():
        eps = prompt.text(prompt.image, 0)
        if normalize:
            size = sum(abs(e) for e in eps) / len(eps)
            eps = [e / size * math.sqrt(2 / math.pi) for e in eps]
        total = 0.0
        for t in (200, 500):
            again = prompt.text(combine(math.sqrt(ALPHAS[t]), prompt.image, math.sqrt(1 - ALPHAS[t]), eps), t)
            total += sum(abs(a - e) ** p for a, e in zip(again, eps, strict=True))
        want.append(total / 2)
    assert probe(pair.denoiser, pair.batch).tolist() == pytest.approx(want, rel=1e-4)
    assert probe.evals_per_prompt == 3 and probe.direction == "lower"


def test_a_model_whose_prediction_stays_scores_zero(batch: ProbeBatch) -> None:
    class Knows:
        """ε = (x_t − √ᾱ_t x₀) / √(1 − ᾱ_t) with the first prompt's image: exact for it at t > 0, and 0 at t = 0."""

        prediction_type = "epsilon"
        alphas_cumprod = torch.linspace(0.999, 0.01, 1000)

        def predict_noise(self, latents: Any, timesteps: Any, encoder_hidden_states: Any) -> Any:
            a = self.alphas_cumprod[timesteps][:, None, None, None]
            image = a.sqrt() * batch.latents[:1] if int(timesteps[0]) else batch.latents[:1]
            return (latents - image) / (1 - a).sqrt()

    scores = Pia()(Knows(), batch)  # type: ignore[arg-type]
    assert scores[0] < 1e-6 < scores[1:].min()


@pytest.mark.parametrize(("arguments", "says"), [({"p": 0}, "p must be above 0"), ({"timesteps": []}, "one or more")])
def test_bad_arguments(arguments: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Pia(**arguments)
