"""The gradient against finite differences in float64, and its direction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from naive_probes import Naive, combine, norm, trailing
from torch import Tensor

from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.probes.attribution import attribute_tokens, difference_gradient
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_noise_norm import TextNoiseNorm
from cxrguard.probes.tokens import TokenLayout

H = 1e-5


def exact(pair: Any) -> tuple[UNetDenoiser, ProbeBatch]:
    """The pair's model and prompts in float64."""
    b = pair.batch
    double = replace(
        b, encoder_hidden_states=b.encoder_hidden_states.double(), uncond_hidden_states=b.uncond_hidden_states.double(), base=None
    )
    return UNetDenoiser(pair.unets[0], pair.denoiser.alphas_cumprod.double(), pair.denoiser.prediction_type), double


def changed(p: Naive, token: int, dim: int, by: float) -> Naive:
    states = p.batch.encoder_hidden_states.double().clone()
    states[p.row, token, dim] += by
    return replace(p, batch=replace(p.batch, encoder_hidden_states=states))


def by_differences(p: Naive, x: list[float], t: int, token: int) -> list[float]:
    """∂‖Δε‖/∂e_token by central differences, x held fixed."""
    return [
        (norm(changed(p, token, dim, H).difference(x, t)) - norm(changed(p, token, dim, -H).difference(x, t))) / (2 * H) for dim in range(6)
    ]


def naive(p: Naive, token: int, steps: int, seeds: int, *, swapped: bool = False) -> tuple[float, float]:
    """(gradient, gradient × input) of one token; ``swapped`` guides away from the text."""
    change = (p.batch.encoder_hidden_states[p.row, token].double() - p.batch.uncond_hidden_states[0, token].double()).tolist()
    norms, products = 0.0, 0.0
    for seed in range(seeds):
        x = p.noise(seed)
        for t in trailing(10)[:steps]:
            g = by_differences(p, x, t, token)
            norms, products = norms + norm(g), products + sum(a * b for a, b in zip(g, change, strict=True))
            text, uncond = p.text(x, t), p.uncond(x, t)
            text, uncond = (uncond, text) if swapped else (text, uncond)
            x = p.move(x, combine(7.5, text, -6.5, uncond), t, t - 100)
    return norms / steps / seeds, products / steps / seeds


@pytest.mark.parametrize(("steps", "seeds"), [(1, 2), (2, 1)])
def test_against_finite_differences(pair: Any, steps: int, seeds: int) -> None:
    denoiser, batch = exact(pair)
    found = attribute_tokens(denoiser, batch, steps=steps, seeds=seeds, schedule_steps=10)
    for row, p in enumerate(pair.prompts()):
        for token in (0, 8):
            gradient, product = naive(p, token, steps, seeds)
            assert float(found.gradient[row, token]) == pytest.approx(gradient, rel=1e-4)
            assert float(found.gradient_times_input[row, token]) == pytest.approx(product, rel=1e-4, abs=1e-6)


def test_guidance_is_towards_the_text(pair: Any) -> None:
    """With conditional and unconditional the wrong way round, all steps after the first come out differently."""
    denoiser, batch = exact(pair)
    found = attribute_tokens(denoiser, batch, steps=2, seeds=1, schedule_steps=10)
    for row, p in enumerate(pair.prompts()):
        right, wrong = naive(p, 4, 2, 1)[0], naive(p, 4, 2, 1, swapped=True)[0]
        assert float(found.gradient[row, 4]) == pytest.approx(right, rel=1e-4)
        assert abs(wrong - right) > 0.01 * right


def test_the_score_rises_along_the_gradient(pair: Any) -> None:
    """And not that of the empty prompt, from which the distance is taken."""
    denoiser, batch = exact(pair)
    x = batch.noise(0).double()
    text, uncond, gradient = difference_gradient(denoiser, batch, x, 999)
    before = (text - uncond).flatten(1).norm(dim=1)
    for sign in (1, -1):
        moved = replace(batch, encoder_hidden_states=batch.encoder_hidden_states + sign * 1e-4 * gradient)
        after = difference_gradient(denoiser, moved, x, 999)
        assert ((after[0] - after[1]).flatten(1).norm(dim=1) - before).sign().tolist() == [sign] * 2
    assert torch.allclose(
        text, denoiser.predict_noise_pair(x, torch.full((2,), 999), batch.encoder_hidden_states, batch.uncond_hidden_states)[0]
    )


def test_on_a_linear_model_gradient_times_input_adds_up_to_the_score(denoiser: Any, batch: ProbeBatch) -> None:
    """Δε = x (mean of text − mean of uncond), so that s is linear in e − e_∅; turned round, the sum would be −s."""
    found = attribute_tokens(denoiser, batch, seeds=2)
    scores = TextNoiseNorm(seeds=2)(denoiser, batch)
    assert torch.allclose(found.gradient_times_input.sum(dim=1), scores, rtol=1e-4)
    for i in range(4):
        size = sum(float(batch.noise(seed)[i].norm()) for seed in range(2)) / 2
        assert found.gradient[i].tolist() == pytest.approx([size / (3 * 5) * 5**0.5] * 3, rel=1e-4)


def test_the_empty_prompt_has_no_gradient(pair: Any) -> None:
    empty = replace(pair.batch, encoder_hidden_states=pair.batch.uncond_hidden_states.expand(2, -1, -1))
    found = attribute_tokens(pair.denoiser, empty, steps=2, seeds=1, schedule_steps=10)
    assert found.gradient.abs().max() == 0 and found.gradient_times_input.abs().max() == 0


def test_a_prompt_alone_is_the_same_and_nothing_is_changed(pair: Any) -> None:
    weights = {k: v.clone() for k, v in pair.denoiser.unet.state_dict().items()}
    states, rng = pair.batch.encoder_hidden_states.clone(), torch.get_rng_state()
    with torch.no_grad():
        found = attribute_tokens(pair.denoiser, pair.batch, steps=2, seeds=2)
    alone = [attribute_tokens(pair.denoiser, part, steps=2, seeds=2) for part in pair.batch.split(1)]
    assert torch.allclose(torch.cat([a.gradient for a in alone]), found.gradient, rtol=1e-4, atol=1e-6)
    assert found.gradient.dtype == torch.float32 and not found.gradient.requires_grad
    assert all(p.grad is None for p in pair.denoiser.unet.parameters()) and torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(v, weights[k]) for k, v in pair.denoiser.unet.state_dict().items())
    assert torch.equal(pair.batch.encoder_hidden_states, states) and not pair.batch.encoder_hidden_states.requires_grad


def test_two_evaluations_a_step_and_noise(denoiser: Any, batch: ProbeBatch) -> None:
    attribute_tokens(denoiser, batch, steps=2, seeds=3, schedule_steps=5)
    assert denoiser.timesteps == [999, 999, 799, 799] * 3


def test_sections_are_kept_apart() -> None:
    from cxrguard.probes.attribution import TokenAttribution

    layout = TokenLayout(torch.tensor([1, 1]), torch.tensor([3, 4]), 5)
    gradient = torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    sections = TokenAttribution(gradient, gradient, layout).by_section()
    assert [sections[name][0].item() for name in ("begin", "prompt", "end", "padding")] == [1, 3, 8, 16]
    assert sections["prompt"][1] == 3 and sections["end"][1] == 5 and sections["padding"][1].isnan()
    with pytest.raises(ValueError, match=r"give ProbeBatch\.tokens"):
        TokenAttribution(gradient, gradient, None).by_section()


@pytest.mark.parametrize("steps", [0, 51])
def test_steps_out_of_range(denoiser: Any, batch: ProbeBatch, steps: int) -> None:
    with pytest.raises(ValueError, match="steps must be 1 to schedule_steps"):
        attribute_tokens(denoiser, batch, steps=steps)


def test_tokens_go_with_the_attribution(denoiser: Any, batch: ProbeBatch) -> None:
    layout = TokenLayout(torch.tensor([0] * 4), torch.tensor([2] * 4), 3)
    found: Tensor = attribute_tokens(denoiser, replace(batch, tokens=layout), seeds=1).by_section()["prompt"]
    assert found.shape == (4,)
