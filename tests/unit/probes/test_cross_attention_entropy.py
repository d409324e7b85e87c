"""Ren's E and D against loops, with the tokens of a CLIP and of a BERT tokenizer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from naive_attention import attention_of, entropy_of, mean_rows
from naive_probes import Naive, trailing

from cxrguard.diffusion.attention import CrossAttentionMap, CrossAttentionRecord
from cxrguard.errors import BadInputError, ModelError
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.cross_attention_entropy import CrossAttentionEntropy, entropy, mean_attention
from cxrguard.probes.tokens import TokenLayout


def naive_attention(p: Naive, x: list[float], t: int, layer: int | None) -> list[float]:
    layers = list(attention_of(p.unet, lambda: p.text(x, t))[1].values())
    means = [mean_rows(rows) for rows in (layers if layer is None else [layers[layer]])]
    return mean_rows(means)


@pytest.mark.parametrize("layer", [None, 1])
def test_first_step_against_loops(pair: Any, layer: int | None) -> None:
    probe = CrossAttentionEntropy(layer=layer, seeds=2)
    want = [sum(entropy_of(naive_attention(p, p.noise(seed), 999, layer)) for seed in range(2)) / 2 for p in pair.prompts()]
    assert probe(pair.denoiser, pair.batch).tolist() == pytest.approx(want, rel=1e-4)
    assert probe.evals_per_prompt == 2 and probe.direction == "higher"


def test_trajectory_against_loops(pair: Any, tokens: TokenLayout) -> None:
    layer = 2 if int(tokens.end[0]) == 2 else None  # one layer for CLIP, all for BERT
    probe = CrossAttentionEntropy(variant="D", layer=layer, seeds=2, schedule_steps=5, last_steps=2, guidance_scale=3.0)
    want = []
    for row, p in enumerate(pair.prompts()):
        total, end = 0.0, int(tokens.end[row])
        for seed in range(2):
            x, weights = p.noise(seed), []
            for t in trailing(5):
                weights.append(naive_attention(p, x, t, layer))
                x = p.guided_step(x, t, 5, 3.0)
            rise = sum(entropy_of(w[end:]) for w in weights[3:]) / 2 - entropy_of(weights[0][end:])
            total += sum(entropy_of(w) for w in weights[3:]) / 2 + rise
        want.append(total / 2)
    assert probe(pair.denoiser, replace(pair.batch, tokens=tokens)).tolist() == pytest.approx(want, rel=1e-4)
    assert probe.evals_per_prompt == 20 and probe.direction == "higher"


def test_published_form_is_the_last_ten_of_fifty(pair: Any, tokens: TokenLayout) -> None:
    calls: list[bool] = []
    denoiser = pair.denoiser
    hook = denoiser.unet.register_forward_pre_hook(lambda *_: calls.append(bool(denoiser._records)))
    try:
        CrossAttentionEntropy(variant="D", seeds=1)(denoiser, replace(pair.batch, tokens=tokens))
    finally:
        hook.remove()
    assert calls == [True] + [False] * 39 + [True] * 10


def test_entropy_is_that_of_the_mean_over_positions_and_layers() -> None:
    flat = CrossAttentionMap("a", "down", (1, 2), torch.tensor([[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]]))
    other = CrossAttentionMap("b", "up", (1, 1), torch.tensor([[[0.0, 0.0, 0.5, 0.5]]]))
    record = CrossAttentionRecord({"a": flat, "b": other})
    assert mean_attention(record, None).tolist() == [[0.25] * 4] and mean_attention(record, 0).tolist() == [[0.5, 0.5, 0, 0]]
    assert entropy(mean_attention(record, None)).tolist() == pytest.approx([math.log(4)])
    assert entropy(mean_attention(record, 0)).tolist() == pytest.approx([math.log(2)])


def test_what_is_missing_is_named(pair: Any, batch: ProbeBatch) -> None:
    with pytest.raises(BadInputError, match="'cross_attention_entropy' tells a prompt's own tokens.*token_layout makes it"):
        CrossAttentionEntropy(variant="D")(pair.denoiser, pair.batch)
    with pytest.raises(ModelError, match="the model has 4 cross-attention layers, counted from 0; there is no layer 9"):
        CrossAttentionEntropy(layer=9)(pair.denoiser, pair.batch)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"variant": "F"}, "variant must be one of E, D, not 'F'"),
        ({"layer": -1}, "counted from 0, not -1"),
        ({"variant": "D", "last_steps": 50}, r"1 to schedule_steps - 1 \(49\), not 50"),
        ({"variant": "D", "last_steps": 0}, "not 0"),
        ({"seeds": 0}, "seeds must be at least 1"),
    ],
)
def test_bad_arguments(arguments: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CrossAttentionEntropy(**arguments)
