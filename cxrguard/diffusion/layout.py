"""A model's weights in plain layout for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def contiguous_layout(model: nn.Module) -> Iterator[None]:
    """While it lasts no weight is channels_last, and so no activation is; then the very tensors from before are put back.

    Forward-mode derivatives need it: torch 2.13's of ``group_norm`` refuses other layouts ("view size is not compatible").
    """
    # Of all kernels: those of 1 x 1 are contiguous either way, and their strides alone make the outputs channels_last.
    changed = [(p, p.data) for p in model.parameters() if p.ndim == 4]
    for parameter, data in changed:
        parameter.data = data.new_empty(data.shape).copy_(data)
    try:
        yield
    finally:
        for parameter, data in changed:
            parameter.data = data
