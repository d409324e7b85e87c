"""Replication of generated samples: scores, a prompt by the sample that looks most copied."""

from __future__ import annotations

from typing import Self

import pytest
import torch
from torch import Tensor

from cxrguard.embedders.base import cosine_similarity
from cxrguard.probes.replication import DIRECTIONS, EMBEDDER, RATIO, TILED_L2, ReplicationJudge, evals_per_prompt
from cxrguard.probes.tiled_l2 import neighbours, tiled_l2


def images(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Centered:
    """Pixels less the mean image that it was fitted on."""

    name = "centered"

    def __init__(self) -> None:
        self.mean: Tensor | None = None

    def fit(self, images: Tensor) -> Self:
        self.mean = images.flatten(1).mean(dim=0)
        return self

    def __call__(self, images: Tensor) -> Tensor:
        assert self.mean is not None
        return images.flatten(1) - self.mean

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        return cosine_similarity(a, b)


@pytest.fixture(scope="module")
def judge() -> ReplicationJudge:
    return ReplicationJudge(images(40), Centered(), k=10, chunk=32)


def test_scores_are_those_of_the_most_copied_sample(judge: ReplicationJudge) -> None:
    pixels = images(12, seed=2).reshape(4, 3, 1, 8, 8)
    found = judge.judge(pixels)
    near = neighbours(pixels.flatten(0, 1), images(40), k=10)
    embedder = Centered().fit(images(40))
    cosine = cosine_similarity(embedder(pixels.flatten(0, 1)), embedder(images(40)))
    want = {
        TILED_L2: near.distance.reshape(4, 3).amin(dim=1),
        RATIO: near.ratio.reshape(4, 3).amin(dim=1),
        EMBEDDER: cosine.reshape(4, 3, 40).amax(dim=(1, 2)),
    }
    assert tuple(found) == judge.names == tuple(want)
    for name, values in want.items():
        torch.testing.assert_close(found[name], values, rtol=1e-5, atol=1e-6)


def test_one_copy_among_a_prompts_samples_is_seen(judge: ReplicationJudge) -> None:
    pixels = images(9, seed=3).reshape(3, 3, 1, 8, 8).clone()
    pixels[1, 2] = images(40)[17] + 0.01
    for name, scores in judge.judge(pixels).items():
        copied, others = scores[1], scores[[0, 2]]
        assert (copied > others).all() if DIRECTIONS[name] == "higher" else (copied < others).all()
    without = judge.judge(pixels[:, :2])
    assert without[TILED_L2][1] > 3 * judge.judge(pixels)[TILED_L2][1]


def test_without_an_embedder_in_pixels_alone() -> None:
    assert ReplicationJudge(images(5)).names == tuple(ReplicationJudge(images(5)).judge(images(2)[:, None])) == (TILED_L2, RATIO)


def test_batches_and_other_prompts_change_nothing(judge: ReplicationJudge) -> None:
    pixels = images(8, seed=4).reshape(4, 2, 1, 8, 8)
    whole = judge.judge(pixels)
    for i in range(4):
        for name, values in judge.judge(pixels[i : i + 1]).items():
            torch.testing.assert_close(values[0], whole[name][i], rtol=1e-5, atol=1e-6)


def test_overshooting_samples_are_clipped_and_broken_ones_refused(judge: ReplicationJudge) -> None:
    pixels = images(2, seed=5)[:, None] * 1.5
    clipped = judge.judge(pixels)[TILED_L2]
    torch.testing.assert_close(clipped, tiled_l2(pixels[:, 0].clamp(-1, 1), images(40)).amin(dim=1))
    with pytest.raises(ValueError, match="not finite"):
        judge.judge(torch.full((1, 1, 1, 8, 8), torch.nan))


def test_evaluations_a_prompt() -> None:
    assert evals_per_prompt(20, 16) == 640
