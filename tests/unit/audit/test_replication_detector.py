"""Replication as a detector: its own samples, every wording, the most copied counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from cxrguard.audit.replication import Replication
from cxrguard.embedders.base import FrozenEmbedder


class Corner(FrozenEmbedder):
    """The upper left 8 × 8 pixels."""

    name = "corner"

    def _embed(self, images: Tensor) -> Tensor:
        return images[:, 0, :8, :8].flatten(1)


class FakeEvaluator:
    """Its samples are noise but one: a copy of a training image under the second canary."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.training = torch.rand(60, 1, 16, 16, generator=generator) * 2 - 1
        self.judged = SimpleNamespace(references=SimpleNamespace(training_pixels=self.training))
        self.sampler = SimpleNamespace(steps=10)
        self.asked: list[tuple[str, int, str]] = []

    def generate(self, denoiser: Any, group: str, k: int, on_batch: Any = None, stream: str = "sample") -> Any:
        self.asked.append((group, k, stream))
        pixels = torch.rand(3, 2 * k, 1, 16, 16, generator=torch.Generator().manual_seed(len(group))) * 2 - 1
        if group == "canaries":
            pixels[1, -1] = self.training[7]
        return SimpleNamespace(pixels=pixels)


@pytest.mark.parametrize("embedder", [None, Corner()])
def test_the_most_copied_sample_counts(embedder: Corner | None) -> None:
    evaluator: Any = FakeEvaluator()
    replication = Replication(embedder, samples=2)
    found = replication.detectors(evaluator)
    scores = replication.score(evaluator, None, ["canaries", "controls"])  # type: ignore[arg-type]
    assert list(scores) == [d.name for d in found] == ["replication_tiled_l2", "replication_ratio", "replication_embedder"][: len(found)]
    assert len(found) == (2 if embedder is None else 3)
    assert {d.evals_per_prompt for d in found} == {2 * 10 * 2}
    for detector in found:
        canaries, controls = scores[detector.name]["canaries"], scores[detector.name]["controls"]
        assert canaries.shape == controls.shape == (3,)
        worst = canaries.argmin() if detector.direction == "lower" else canaries.argmax()
        assert worst == 1
    assert scores["replication_tiled_l2"]["canaries"][1] == 0


def test_its_samples_are_not_those_that_decide_the_outcome() -> None:
    evaluator: Any = FakeEvaluator()
    Replication(None, samples=1).score(evaluator, None, ["canaries"])  # type: ignore[arg-type]
    assert evaluator.asked == [("canaries", 1, "replication")]
