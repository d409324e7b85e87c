"""Private, seeded randomness: every draw is a function of what it is for, never of global state.

Order, batch size, the number of processes, resuming and probing then change nothing (see DESIGN, "Randomness").
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor


def derive_seed(*keys: str | int) -> int:
    """Hash the keys to a seed in [0, 2**63). The same keys give the same seed on every machine."""
    text = "\x1f".join(f"{type(key).__name__}:{key}" for key in keys)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def numpy_generator(*keys: str | int) -> np.random.Generator:
    """A NumPy generator of its own for ``keys``."""
    return np.random.default_rng(derive_seed(*keys))


def torch_generator(*keys: str | int) -> torch.Generator:
    """A CPU torch generator of its own for ``keys``; draw on the CPU, then move, so that devices agree."""
    return torch.Generator().manual_seed(derive_seed(*keys))


def normal(shape: tuple[int, ...], *keys: str | int) -> Tensor:
    """Standard normal noise of ``shape`` as a function of ``keys`` (CPU, float32)."""
    return torch.randn(shape, generator=torch_generator(*keys))


def prompt_key(prompt: str) -> str:
    """A short hash of a prompt to derive noise from. Not a pseudonym: short prompts can be guessed from it."""
    return hashlib.blake2b(prompt.encode(), digest_size=8).hexdigest()
