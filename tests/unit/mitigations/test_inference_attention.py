"""Rescaled cross-attention against a loop over heads, positions and tokens."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from diffusers.models.attention_processor import Attention
from hypothesis import given
from hypothesis import strategies as st
from naive_inference import Case, case_of
from torch import Tensor

from cxrguard.diffusion.attention_rescaling import RescaledAttention, _Processor, rescale_logits
from cxrguard.errors import BadInputError, ModelError
from cxrguard.mitigations.inference.attention_rescaling import AttentionRescaling

FACTOR = 1.25


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(request.param)


def naive(layer: Attention, x: Tensor, text: Tensor, raised: list[bool], hidden: list[bool], factor: float) -> Tensor:
    """One sample: x [Q, C], text [L, D]."""
    q, k, v = layer.to_q(x), layer.to_k(text), layer.to_v(text)
    width = q.shape[1] // layer.heads
    out = torch.zeros_like(q)
    for h in range(layer.heads):
        part = slice(h * width, (h + 1) * width)
        for i in range(len(x)):
            logits = []
            for j in range(len(text)):
                z = float((q[i, part] * k[j, part]).sum()) / math.sqrt(width)
                if raised[j]:
                    z = factor * z if z >= 0 else z + (factor - 1) * -z
                logits.append(-math.inf if hidden[j] else z)
            top = max(logits)
            weights = [math.exp(z - top) for z in logits]
            out[i, part] = sum((w / sum(weights)) * v[j, part] for j, w in enumerate(weights))
    return layer.to_out[0](out)


def test_each_sample_of_a_batch_has_its_own_masks() -> None:
    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(3)
    layer = Attention(query_dim=6, cross_attention_dim=5, heads=3, dim_head=4).double()
    x, text = (torch.randn(*shape, generator=generator, dtype=torch.float64) * 2 for shape in ((2, 7, 6), (2, 5, 5)))
    raised = torch.tensor([[True, False, False, False, False], [False, True, False, False, False]])
    hidden = torch.tensor([[False, False, False, True, True], [False] * 5])
    with torch.no_grad():
        found = _Processor(raised, hidden, FACTOR)(layer, x, text)
        for i in range(2):
            want = naive(layer, x[i], text[i], raised[i].tolist(), hidden[i].tolist(), FACTOR)
            torch.testing.assert_close(found[i], want, rtol=1e-5, atol=1e-6)  # logits are taken in float32


def test_factor_one_and_no_mask_is_the_model_itself(case: Case) -> None:
    nothing = torch.zeros(3, case.start.encoder_hidden_states.shape[1], dtype=torch.bool)
    steered, t = RescaledAttention(case.denoiser, nothing, nothing, 1.0), torch.full((3,), 999)
    pairs = [d.predict_noise_pair(case.start.noise, t, case.start.encoder_hidden_states, case.start.uncond_hidden_states)
             for d in (steered, case.denoiser)]  # fmt: skip
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_only_the_text_is_touched_and_the_model_is_as_before(case: Case) -> None:
    processors = [m.processor for m in case.unet.modules() if isinstance(m, Attention)]
    steered, t = AttentionRescaling().steer(case.denoiser, case.start), torch.full((3,), 999)
    given = (case.start.noise, t, case.start.encoder_hidden_states, case.start.uncond_hidden_states)
    text, uncond = steered.predict_noise_pair(*given)
    plain_text, plain_uncond = case.denoiser.predict_noise_pair(*given)
    torch.testing.assert_close(uncond, plain_uncond, rtol=1e-9, atol=1e-9)
    assert all(not torch.allclose(a, b, rtol=1e-3) for a, b in zip(text, plain_text, strict=True))
    with pytest.raises(Exception, match=r".+"):  # three samples are known, not two
        steered.predict_noise(case.start.noise[:2], t[:2], case.start.encoder_hidden_states[:2])
    assert [m.processor for m in case.unet.modules() if isinstance(m, Attention)] == processors


def test_what_is_masked_does_not_count(case: Case) -> None:
    """Other states at the end token and the padding change nothing; at a word they do."""
    t = torch.full((3,), 999)
    for row, (begin, end) in enumerate(zip([1, 1, 1], [4, 7, 2], strict=True)):
        for mitigation, last in ((AttentionRescaling(), end), (AttentionRescaling(mask_end=False), end + 1)):
            other = case.start.encoder_hidden_states.clone()
            other[row, last:] += 5
            steered = mitigation.steer(case.denoiser, case.start)
            a, b = (steered.predict_noise(case.start.noise, t, states) for states in (case.start.encoder_hidden_states, other))
            torch.testing.assert_close(a[row], b[row], rtol=1e-9, atol=1e-9)
            other[row, begin] += 5
            assert not torch.allclose(steered.predict_noise(case.start.noise, t, other)[row], a[row])


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=6), st.floats(1, 3))
def test_the_first_token_never_loses_attention(logits: list[float], factor: float) -> None:
    z = torch.tensor(logits, dtype=torch.float64)[None, None, None]
    first = torch.zeros(1, len(logits), dtype=torch.bool)
    first[0, 0] = True
    after = rescale_logits(z, first, torch.zeros_like(first), factor).softmax(-1)
    assert after[..., 0].item() >= z.softmax(-1)[..., 0].item() - 1e-12


def test_what_cannot_be_rescaled_is_refused(case: Case) -> None:
    with pytest.raises(BadInputError, match="was not told where they lie"):
        AttentionRescaling().steer(case.denoiser, replace(case.start, tokens=None))
    with pytest.raises(ValueError, match="at least 1"):
        AttentionRescaling(factor=0.5)
    mask = torch.ones(3, 9, dtype=torch.bool)
    with pytest.raises(ValueError, match="no token left"):
        RescaledAttention(case.denoiser, mask, mask, 1.0)
    steered = AttentionRescaling().steer(case.denoiser, case.start)
    with pytest.raises(ModelError, match="cannot be rescaled"):
        RescaledAttention(steered, ~mask, ~mask, 1.0)
    with pytest.raises(ModelError, match="cannot be recorded"):
        steered.record_cross_attention()
