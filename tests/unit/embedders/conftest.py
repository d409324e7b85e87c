"""Grey images, and the way to see that a loader draws no random number of the run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 1, 40, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def untouched_rng() -> Iterator[None]:
    """The global generator is where it was, after all that the test did."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)
