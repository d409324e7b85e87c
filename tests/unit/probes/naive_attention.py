"""Cross-attention once more, one sample at a time, in plain loops, from what the layers are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

Rows = list[list[float]]


def attention_of(unet: Any, run: Callable[[], Any]) -> tuple[Any, dict[str, Rows]]:
    """What ``run`` returns, and [position][token] of each text layer, the mean over heads, in the order in which the layers ran."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def hook(name: str) -> Any:
        return lambda _, args, kwargs, __: seen.update({name: (args[0][0], kwargs["encoder_hidden_states"][0])})

    layers = {name: m for name, m in unet.named_modules() if name.endswith("attn2")}
    hooks = [m.register_forward_hook(hook(name), with_kwargs=True) for name, m in layers.items()]
    try:
        result = run()
    finally:
        for h in hooks:
            h.remove()
    return result, {name: softmax_rows(layers[name], *given) for name, given in seen.items()}


def softmax_rows(layer: Any, image: Tensor, text: Tensor) -> Rows:
    queries, keys = project(layer.to_q.weight.tolist(), image.tolist()), project(layer.to_k.weight.tolist(), text.tolist())
    d = len(queries[0]) // layer.heads
    return [
        [sum(head) / layer.heads for head in zip(*(softmax(q, keys, h * d, d) for h in range(layer.heads)), strict=True)] for q in queries
    ]


def project(weight: Rows, given: Rows) -> Rows:
    return [[sum(w * x for w, x in zip(row, each, strict=True)) for row in weight] for each in given]


def softmax(query: list[float], keys: Rows, start: int, d: int) -> list[float]:
    powers = [math.exp(sum(query[j] * key[j] for j in range(start, start + d)) / math.sqrt(d)) for key in keys]
    return [p / sum(powers) for p in powers]


def mean_rows(rows: Rows) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def entropy_of(weights: list[float]) -> float:
    return sum(-w * math.log(w) for w in weights)
