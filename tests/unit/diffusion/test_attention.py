"""Recorded attention is softmax(QKᵀ/√d) by hand, and recording leaves no trace."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor, nn

from cxrguard.diffusion.attention import attention_probs, record_cross_attention
from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.diffusion.loading import PipelineParts
from cxrguard.errors import ModelError


def by_hand(layer: Attention, image: Tensor, text: Tensor) -> list[list[float]]:
    """Mean over heads of softmax(QKᵀ/√d) of one sample, in plain loops."""
    wq, wk = layer.to_q.weight.double().tolist(), layer.to_k.weight.double().tolist()
    queries = [[sum(w * x for w, x in zip(row, each, strict=True)) for row in wq] for each in image.double().tolist()]
    keys = [[sum(w * x for w, x in zip(row, each, strict=True)) for row in wk] for each in text.double().tolist()]
    d = len(wq) // layer.heads
    out = []
    for q in queries:
        row = [0.0] * len(keys)
        for h in range(layer.heads):
            part = slice(h * d, (h + 1) * d)
            logits = [sum(a * b for a, b in zip(q[part], k[part], strict=True)) / math.sqrt(d) for k in keys]
            total = sum(math.exp(x) for x in logits)
            row = [r + math.exp(x) / total / layer.heads for r, x in zip(row, logits, strict=True)]
        out.append(row)
    return out


def call(parts: PipelineParts, batch: int = 2, tokens: int = 7, sides: tuple[int, int] = (8, 8)) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(batch, parts.unet.config.in_channels, *sides, generator=generator)
    return latents, torch.full((batch,), 500), 3 * torch.randn(batch, tokens, 16, generator=generator)


def denoiser_of(parts: PipelineParts) -> UNetDenoiser:
    return UNetDenoiser(parts.unet.eval(), parts.alphas_cumprod, parts.prediction_type)


def inputs_of(unet: Any, run: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """What each text layer is given, by forward hooks of the test's own."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = [
        m.register_forward_hook(
            lambda _, args, kwargs, __, name=name: seen.update({name: (args[0], kwargs["encoder_hidden_states"])}), with_kwargs=True
        )
        for name, m in unet.named_modules()
        if name.endswith("attn2")
    ]
    run()
    for hook in hooks:
        hook.remove()
    return seen


@torch.no_grad()
def test_probabilities_are_those_worked_out_by_hand(parts: PipelineParts) -> None:
    denoiser, given = denoiser_of(parts), call(parts)
    seen = inputs_of(parts.unet, lambda: denoiser.predict_noise(*given))
    with denoiser.record_cross_attention() as record:
        denoiser.predict_noise(*given)
    assert list(record.maps) == list(seen) and len(seen) >= 3
    for name, layer_map in record.maps.items():
        layer = parts.unet.get_submodule(name)
        assert layer_map.name == name and layer_map.stage == name.split("_")[0] and layer_map.stage in ("down", "mid", "up")
        assert layer_map.probs.shape == (2, layer_map.size[0] * layer_map.size[1], 7)
        for row in range(2):
            want = torch.tensor(by_hand(layer, seen[name][0][row], seen[name][1][row]))
            assert torch.allclose(layer_map.probs[row], want, rtol=1e-4, atol=1e-6)
    assert any((m.probs.max(dim=2).values > 0.2).any() for m in record.maps.values())  # not all flat


class Noting(AttnProcessor):
    """diffusers' own plain processor, which asks the layer for its probabilities."""

    noted: dict[int, Tensor]

    def __call__(self, attn: Attention, *args: Any, **kwargs: Any) -> Any:
        scores = attn.get_attention_scores

        def note(*a: Any) -> Tensor:
            self.noted[id(attn)] = scores(*a)
            return self.noted[id(attn)]

        attn.get_attention_scores = note
        try:
            return super().__call__(attn, *args, **kwargs)
        finally:
            del attn.get_attention_scores


@torch.no_grad()
def test_equal_to_diffusers_own_and_processors_stay(parts: PipelineParts) -> None:
    denoiser, given = denoiser_of(parts), call(parts)
    processor = Noting()
    processor.noted = {}
    parts.unet.set_attn_processor(processor)
    with denoiser.record_cross_attention() as record:
        denoiser.predict_noise(*given)
        assert set(parts.unet.attn_processors.values()) == {processor}
    for name, layer_map in record.maps.items():
        layer = parts.unet.get_submodule(name)
        want = processor.noted[id(layer)].unflatten(0, (2, layer.heads)).mean(dim=1)
        assert torch.allclose(layer_map.probs, want, rtol=1e-5, atol=1e-7)


def trace(unet: nn.Module) -> list[Any]:
    return [(m, getattr(m, "processor", None), list(m._forward_pre_hooks), list(m._forward_hooks), m.training) for m in unet.modules()]


@torch.no_grad()
def test_recording_changes_no_bit_and_leaves_nothing_also_after_an_error(parts: PipelineParts) -> None:
    denoiser, given = denoiser_of(parts), call(parts)
    plain, before, rng = denoiser.predict_noise(*given), trace(parts.unet), torch.get_rng_state()
    with denoiser.record_cross_attention():
        assert torch.equal(denoiser.predict_noise(*given), plain)
    with pytest.raises(RuntimeError), denoiser.record_cross_attention():
        denoiser.predict_noise(given[0], given[1], torch.zeros(2, 7, 5))  # of another width
    with pytest.raises(KeyError), denoiser.record_cross_attention():
        raise KeyError
    assert trace(parts.unet) == before and torch.equal(torch.get_rng_state(), rng) and denoiser._records == []
    assert torch.equal(denoiser.predict_noise(*given), plain)


@torch.no_grad()
def test_of_a_pair_only_the_text_and_only_the_latest_call(parts: PipelineParts) -> None:
    denoiser, (latents, timesteps, text) = denoiser_of(parts), call(parts)
    uncond = torch.zeros(1, 7, 16)
    with denoiser.record_cross_attention() as record:
        denoiser.predict_noise_pair(latents, timesteps, text, uncond)
        pair = dict(record.maps)
        denoiser.predict_noise(latents, timesteps, text)
        alone = dict(record.maps)
        denoiser.predict_noise(latents, timesteps, uncond.expand_as(text))
    for name, layer_map in pair.items():
        assert layer_map.probs.shape == alone[name].probs.shape
        assert torch.allclose(layer_map.probs, alone[name].probs, atol=1e-6)
        assert not torch.allclose(layer_map.probs, record.maps[name].probs, atol=1e-3)


@torch.no_grad()
def test_records_may_be_nested(parts: PipelineParts) -> None:
    denoiser, (latents, timesteps, text) = denoiser_of(parts), call(parts)
    with denoiser.record_cross_attention() as outer:
        with denoiser.record_cross_attention() as inner:
            denoiser.predict_noise_pair(latents, timesteps, text, torch.zeros(1, 7, 16))
        assert [m.probs.shape for m in outer.maps.values()] == [m.probs.shape for m in inner.maps.values()]
        held = dict(inner.maps)
        denoiser.predict_noise(latents[:1], timesteps[:1], text[:1])
    assert inner.maps == held and {len(m.probs) for m in outer.maps.values()} == {1}


@pytest.mark.parametrize(("sides", "want"), [((8, 12), {(8, 12), (4, 6)}), ((6, 10), {(6, 10), (3, 5)})])
@torch.no_grad()
def test_sizes_of_uneven_latents(parts: PipelineParts, sides: tuple[int, int], want: set[tuple[int, int]]) -> None:
    denoiser = denoiser_of(parts)
    with denoiser.record_cross_attention() as record:
        denoiser.predict_noise(*call(parts, sides=sides))
    assert {m.size for m in record.maps.values()} <= want and sides in {m.size for m in record.maps.values()}
    with record_cross_attention(parts.unet) as other:
        parts.unet(sample=call(parts, sides=sides)[0], timestep=5, encoder_hidden_states=torch.zeros(2, 7, 16))
    assert {n: m.size for n, m in other.maps.items()} == {n: m.size for n, m in record.maps.items()}


def test_rows_sum_to_one_in_half_precision_and_under_autocast(parts: PipelineParts) -> None:
    layer = next(m for m in parts.unet.modules() if isinstance(m, Attention) and m.is_cross_attention)
    image, text = torch.randn(2, 9, layer.to_q.in_features), torch.randn(2, 300, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        probs = attention_probs(layer, image, text)
    assert probs.dtype == torch.float32 and torch.allclose(probs.sum(dim=2), torch.ones(2, 9), atol=1e-5)
    assert not probs.requires_grad
    half = attention_probs(layer.bfloat16(), image.bfloat16(), text.bfloat16())
    assert half.dtype == torch.float32 and torch.allclose(half.sum(dim=2), torch.ones(2, 9), atol=1e-5)


def test_no_cross_attention_and_masks_are_refused(parts: PipelineParts) -> None:
    with (
        pytest.raises(ModelError, match=r"the model \(Sequential\) has no cross-attention layers"),
        record_cross_attention(nn.Sequential()),
    ):
        pass
    layer = next(m for m in parts.unet.modules() if isinstance(m, Attention) and m.is_cross_attention)
    with pytest.raises(ModelError, match="under a mask"):
        attention_probs(layer, torch.zeros(1, 4, layer.to_q.in_features), torch.zeros(1, 3, 16), torch.zeros(1, 1, 3))
