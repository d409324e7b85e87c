"""Guidance schedules, and which way guidance leads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from naive_inference import case_of
from torch import Tensor

from cxrguard.diffusion.sampling import Sampler, ddim_scheduler
from cxrguard.mitigations.inference.base import InferenceMitigation, Start
from cxrguard.mitigations.inference.dynamic_transition import DynamicTransition
from cxrguard.mitigations.inference.generate import MitigatedSampler
from cxrguard.mitigations.inference.initial_noise import InitialNoise
from cxrguard.mitigations.inference.opposite_guidance import OppositeGuidance
from cxrguard.mitigations.inference.static_transition import StaticTransition


def scales(mitigation: InferenceMitigation, timesteps: list[int], schedule: int = 1000) -> list[float]:
    scale = mitigation.guidance(7.5, schedule)
    return [float(scale(t, torch.zeros(1))) for t in timesteps]


def test_published_transitions() -> None:
    assert scales(StaticTransition(), [999, 501, 500, 19]) == [0, 0, 7.5, 7.5]
    assert scales(OppositeGuidance(), [999, 651, 650, 649]) == [-2, -2, 7.5, 7.5]
    assert scales(InferenceMitigation(), [999, 500, 0]) == [7.5] * 3
    # apply_cfg_step 4: the first five of 50 steps are unguided
    fifty = [999 - 20 * i for i in range(50)]
    assert scales(InitialNoise(), fifty) == [0] * 5 + [7.5] * 45
    assert scales(InitialNoise(transition=1000), fifty) == [7.5] * 50


def test_other_schedules_switch_at_the_same_share() -> None:
    assert scales(StaticTransition(), [99, 51, 50, 1], 100) == [0, 0, 7.5, 7.5]
    assert scales(InitialNoise(), [99, 90, 89], 100) == [0, 0, 7.5]


def naive_dynamic(norms: list[float], scale: float, before: float) -> list[float]:
    """Guided from the step on at which the norm has risen for the first time after it fell."""
    for i in range(2, len(norms)):
        if norms[i - 2] > norms[i - 1] < norms[i]:
            return [before] * i + [scale] * (len(norms) - i)
    return [before] * len(norms)


@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]), min_size=12, max_size=12), min_size=1, max_size=4),
    st.sampled_from([0.0, -2.0]),
)
def test_dynamic_transition_is_each_samples_own(sequences: list[list[float]], before: float) -> None:
    scale = DynamicTransition(before).guidance(7.5, 1000)
    found = torch.stack([scale(999 - i, torch.tensor(step)) for i, step in enumerate(zip(*sequences, strict=True))], dim=1)
    assert found.tolist() == [naive_dynamic(sequence, 7.5, before) for sequence in sequences]


def test_a_second_trajectory_starts_afresh() -> None:
    mitigation = DynamicTransition()
    for _ in range(2):
        scale = mitigation.guidance(3.0, 1000)
        assert [float(scale(t, torch.tensor([n]))) for t, n in ((999, 2.0), (949, 1.0), (899, 2.0))] == [0, 0, 3]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_without_a_mitigation_it_is_the_runs_own_sampler(prediction_type: str) -> None:
    case = case_of(prediction_type)
    start = case.start
    found = MitigatedSampler(case.config, 5, 3.0)(case.denoiser, InferenceMitigation(), start)
    want = Sampler(case.config, 5, 3.0)(case.denoiser, start.encoder_hidden_states, start.uncond_hidden_states, start.noise)
    torch.testing.assert_close(found.latents, want, rtol=1e-9, atol=1e-9)
    assert found.evaluations.tolist() == [10] * 3
    want_norms = [float(case.effect(x, i).detach().square().sum().sqrt()) for i, x in enumerate(start.noise)]
    assert found.first_norm.tolist() == pytest.approx(want_norms, rel=1e-5)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("mitigation", [StaticTransition(400), OppositeGuidance(600), DynamicTransition(-1.0)])
def test_a_guided_trajectory_step_by_step(prediction_type: str, mitigation: InferenceMitigation) -> None:
    case = case_of(prediction_type)
    found = MitigatedSampler(case.config, 10, 3.0)(case.denoiser, mitigation, case.start)
    bars = [float(b) for b in case.denoiser.alphas_cumprod]
    steps = [int(t) for t in ddim_scheduler(case.config, 10).timesteps]
    with torch.no_grad():
        for i, x in enumerate(case.start.noise):
            norms: list[float] = []
            for place, t in enumerate(steps):
                text, uncond = case.eps(x, i, t), case.eps(x, None, t)
                norms.append(float((text - uncond).square().sum().sqrt()))
                if isinstance(mitigation, DynamicTransition):
                    s = naive_dynamic(norms, 3.0, -1.0)[-1]
                else:
                    s = mitigation.before if t > mitigation.transition else 3.0  # type: ignore[attr-defined]
                noise = uncond + s * (text - uncond)
                bar, next_bar = bars[t], bars[steps[place + 1]] if place + 1 < len(steps) else bars[0]
                image = (x - (1 - bar) ** 0.5 * noise) / bar**0.5
                x = next_bar**0.5 * image + (1 - next_bar) ** 0.5 * noise
            torch.testing.assert_close(found.latents[i], x, rtol=1e-4, atol=1e-4)


class Towards:
    """Text draws every pixel to +1, no text leaves it: ε = (x − √ᾱ x₀) / √(1 − ᾱ) with x₀ = 1 under text and 0 without."""

    prediction_type = "epsilon"
    alphas_cumprod = torch.linspace(0.999, 0.01, 1000)

    def predict_noise_pair(self, latents: Tensor, timesteps: Tensor, text: Tensor, uncond: Tensor) -> Any:
        bar = self.alphas_cumprod[timesteps][:, None, None, None]
        return tuple((latents - bar.sqrt() * image) / (1 - bar).sqrt() for image in (1.0, 0.0))


def test_guidance_leads_towards_the_text_and_opposite_guidance_away() -> None:
    bars = Towards.alphas_cumprod
    config = {"num_train_timesteps": 1000, "trained_betas": (1 - bars / torch.cat([torch.ones(1), bars[:-1]])).tolist()}
    start = Start(torch.zeros(2, 3, 4), torch.zeros(1, 3, 4), torch.zeros(2, 1, 4, 4))

    def end(mitigation: InferenceMitigation, scale: float = 1.0) -> float:
        return float(MitigatedSampler(config, 10, scale)(Towards(), mitigation, start).latents.mean())

    always = StaticTransition(-1, 0.0)  # never guided
    away = OppositeGuidance(-1, -2.0)  # never turned
    assert end(InferenceMitigation()) == pytest.approx(1.0, abs=0.05)
    assert end(InferenceMitigation(), 2.0) == pytest.approx(2.0, abs=0.1)
    assert end(always) == pytest.approx(0.0, abs=0.05)
    assert end(away) == pytest.approx(-2.0, abs=0.1)


def test_opposite_is_opposite() -> None:
    with pytest.raises(ValueError, match="below 0"):
        OppositeGuidance(before=0.5)
