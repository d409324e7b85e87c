"""A detector that fails on every model."""

from __future__ import annotations

from typing import Any


class BrokenProbe:
    """Raises something of its own, with a text that must not be shown."""

    name, direction, evals_per_prompt = "broken", "higher", 2

    def __call__(self, denoiser: Any, batch: Any) -> Any:
        raise IndexError("PROMPT TEXT")
