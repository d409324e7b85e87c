"""No embedder: replication is judged in pixels alone."""

from __future__ import annotations


def no_embedder() -> None:
    """Target of ``embedder=none``."""
