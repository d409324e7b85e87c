"""Paths of a user's machine do not reach the audit or W&B."""

from __future__ import annotations

from cxrguard.audit.finish import without_paths


def test_paths_are_replaced_wherever_they_stand() -> None:
    config = {
        "data": {"path": "/data/smith_j.csv", "root": "../shared/x", "batch_size": 16},
        "model": {"source": "stabilityai/stable-diffusion-2-1"},
        "overrides": ["data.path=/data/smith_j.csv", "experiment=demo", "data.root=~/films"],
    }
    assert without_paths(config) == {
        "data": {"path": "<path>", "root": "<path>", "batch_size": 16},
        "model": {"source": "stabilityai/stable-diffusion-2-1"},
        "overrides": ["data.path=<path>", "experiment=demo", "data.root=<path>"],
    }
