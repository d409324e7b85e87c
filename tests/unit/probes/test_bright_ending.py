"""Chen's score against loops, with the tokens of a CLIP and of a BERT tokenizer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from naive_attention import attention_of
from naive_probes import norm, trailing

from cxrguard.diffusion.attention import CrossAttentionMap, CrossAttentionRecord
from cxrguard.errors import BadInputError
from cxrguard.probes.bright_ending import BrightEnding, end_attention, masked_norm
from cxrguard.probes.tokens import TokenLayout


@pytest.mark.parametrize("steps", [1, 5])
def test_against_loops(pair: Any, tokens: TokenLayout, steps: int) -> None:
    probe = BrightEnding(steps=steps, seeds=2, schedule_steps=5, guidance_scale=3.0)
    want = []
    for row, p in enumerate(pair.prompts()):
        total = 0.0
        for seed in range(2):
            x, differences = p.noise(seed), []
            for t in trailing(5):
                differences.append(p.difference(x, t))
                last, x = x, p.guided_step(x, t, 5, 3.0)
            _, maps = attention_of(p.unet, lambda p=p, x=last: p.text(x, trailing(5)[-1]))
            mask = [position[int(tokens.end[row])] for position in maps["down_blocks.0.attentions.0.transformer_blocks.0.attn2"]]
            for d in differences[:steps]:  # channel by channel
                masked = [v * mask[i % len(mask)] for i, v in enumerate(d)]
                total += norm(masked) / (sum(mask) / len(mask))
        want.append(total / steps / 2)
    assert probe(pair.denoiser, replace(pair.batch, tokens=tokens)).tolist() == pytest.approx(want, rel=1e-4)
    assert probe.evals_per_prompt == 20 and probe.direction == "higher"


def layer_map(name: str, size: tuple[int, int], seed: int) -> CrossAttentionMap:
    probs = torch.rand(2, size[0] * size[1], 5, generator=torch.Generator().manual_seed(seed))
    return CrossAttentionMap(name, name.split("_")[0], size, probs)


def test_the_layers_of_the_largest_down_block_count() -> None:
    layers = [layer_map("down_1", (2, 3), 1), layer_map("down_2", (2, 3), 2), layer_map("down_3", (1, 2), 3), layer_map("up_1", (4, 6), 4)]
    tokens = TokenLayout(torch.tensor([1, 1]), torch.tensor([2, 4]), 5)
    mask = end_attention(CrossAttentionRecord({m.name: m for m in layers}), tokens)
    assert mask.shape == (2, 1, 2, 3)
    for row, end in enumerate((2, 4)):
        for i in range(6):
            want = (float(layers[0].probs[row, i, end]) + float(layers[1].probs[row, i, end])) / 2
            assert float(mask[row, 0, i // 3, i % 3]) == pytest.approx(want)
    assert end_attention(CrossAttentionRecord({"up_1": layers[3]}), tokens).shape == (2, 1, 4, 6)


def test_a_smaller_layer_is_brought_to_the_latents(pair: Any, tokens: TokenLayout) -> None:
    probe, record = BrightEnding(schedule_steps=2), CrossAttentionRecord({"down_1": layer_map("down_1", (2, 4), 1)})
    small = record.maps["down_1"]
    probs = torch.cat([small.probs, torch.zeros(2, 8, 4)], dim=2)
    record.maps["down_1"] = replace(small, probs=probs + 0.1)
    difference = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    probe._trajectory = lambda *_: ([difference], record)  # type: ignore[method-assign]
    scores = probe._score(pair.denoiser, pair.batch, tokens, 0)
    for row, end in enumerate(tokens.end.tolist()):
        mask = torch.stack(
            [torch.stack([record.maps["down_1"].probs[row, (y // 2) * 4 + x // 2, end] for x in range(8)]) for y in range(4)]
        )
        assert float(scores[row]) == pytest.approx(float((difference[row] * mask).norm() / mask.mean()), rel=1e-5)


def test_scale_of_the_mask_makes_no_difference_and_an_even_one_gives_the_plain_norm() -> None:
    difference, mask = torch.randn(3, 4, 5, 6), torch.rand(3, 1, 5, 6)
    assert torch.allclose(masked_norm(difference, mask), masked_norm(difference, 1e-3 * mask), rtol=1e-4)
    assert torch.allclose(masked_norm(difference, torch.full_like(mask, 0.2)), difference.flatten(1).norm(dim=1), rtol=1e-4)


def test_another_end_token_is_another_score(pair: Any, tokens: TokenLayout) -> None:
    probe = BrightEnding(schedule_steps=3)
    scores = probe(pair.denoiser, replace(pair.batch, tokens=tokens))
    moved = probe(pair.denoiser, replace(pair.batch, tokens=replace(tokens, end=tokens.end - 1)))
    assert (scores != moved).all()


def test_what_is_missing_is_named(pair: Any) -> None:
    with pytest.raises(BadInputError, match=r"'bright_ending' tells a prompt's own tokens.*Give ProbeBatch\.tokens"):
        BrightEnding()(pair.denoiser, pair.batch)
    with pytest.raises(ValueError, match=r"steps must be 1 to schedule_steps \(50\), not 51"):
        BrightEnding(steps=51)
