"""Replication of generated samples: scores, thresholds and what becomes of them."""

from __future__ import annotations

from typing import Self

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cxrguard.audit.extraction import replay_threshold
from cxrguard.embedders.base import cosine_similarity
from cxrguard.probes.replication import DIRECTIONS, EMBEDDER, RATIO, TILED_L2, ReplicationJudge, evals_per_prompt, null_threshold
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
    return ReplicationJudge(images(40), images(120, seed=1), Centered(), k=10, chunk=32)


def test_scores_are_those_of_their_parts(judge: ReplicationJudge) -> None:
    pixels = images(12, seed=2).reshape(4, 3, 1, 8, 8)
    found = judge.judge(pixels)
    near = neighbours(pixels.flatten(0, 1), images(40), k=10)
    embedder = Centered().fit(images(40))
    cosine = cosine_similarity(embedder(pixels.flatten(0, 1)), embedder(images(40))).max(dim=1)
    for name, want in ((TILED_L2, near.distance), (RATIO, near.ratio), (EMBEDDER, cosine.values)):
        torch.testing.assert_close(found[name].values, want.reshape(4, 3), rtol=1e-5, atol=1e-6)
    assert torch.equal(found[TILED_L2].index, near.index.reshape(4, 3))
    assert torch.equal(found[EMBEDDER].index, cosine.indices.reshape(4, 3))


def test_the_worst_sample_of_a_prompt_counts_and_is_found(judge: ReplicationJudge) -> None:
    """One copy among a prompt's samples, the last: seen with all samples, not with the first two."""
    pixels = images(9, seed=3).reshape(3, 3, 1, 8, 8).clone()
    pixels[1, 2] = images(40)[17] + 0.01
    for name, score in judge.judge(pixels).items():
        beyond, early = score.beyond(), score.beyond(2)
        assert beyond is not None and early is not None
        assert beyond[1] and not early[1], name
        assert int(score.nearest()[1]) == 17
        assert score.direction == DIRECTIONS[name]
        others = score.per_prompt()[[0, 2]]
        copied = score.per_prompt()[1]
        assert (copied > others).all() if score.direction == "higher" else (copied < others).all()


def test_about_one_real_image_in_a_hundred_passes_its_own_threshold(judge: ReplicationJudge) -> None:
    for score in judge.judge(images(120, seed=1)[:, None]).values():
        beyond = score.beyond()
        assert beyond is not None and int(beyond.sum()) <= 1


@settings(max_examples=40, deadline=None)
@given(n=st.integers(100, 300), seed=st.integers(0, 99))
def test_threshold_is_the_rule_of_replays_and_its_mirror_image(n: int, seed: int) -> None:
    scores = torch.randn(n, generator=torch.Generator().manual_seed(seed))
    low, high = null_threshold(scores, "lower"), null_threshold(scores, "higher")
    assert low is not None and high is not None
    assert low == replay_threshold(scores)
    assert high == -null_threshold(-scores, "lower")  # type: ignore[operator]
    assert int((scores < low).sum()) <= 0.01 * n and int((scores > high).sum()) <= 0.01 * n


def test_no_threshold_from_few_images() -> None:
    assert null_threshold(torch.randn(99), "lower") is None
    with pytest.raises(ValueError, match="direction"):
        null_threshold(torch.randn(200), "up")
    few = ReplicationJudge(images(5), images(99, seed=1))
    empty = ReplicationJudge(images(5), images(0))
    assert set(few.thresholds) == {TILED_L2, RATIO} and set(few.thresholds.values()) == set(empty.thresholds.values()) == {None}
    assert all(score.beyond() is None for score in few.judge(images(2, seed=2)[:, None]).values())


def test_copies_among_the_held_out_images_set_no_threshold(judge: ReplicationJudge) -> None:
    with_copies = ReplicationJudge(images(40), torch.cat([images(40)[:10], images(120, seed=1)]), Centered(), k=10)
    assert with_copies.n_copies == 10 and judge.n_copies == 0
    assert with_copies.thresholds == pytest.approx(judge.thresholds)


def test_batches_and_other_prompts_change_nothing(judge: ReplicationJudge) -> None:
    pixels = images(8, seed=4).reshape(4, 2, 1, 8, 8)
    whole = judge.judge(pixels)
    for i in range(4):
        for name, score in judge.judge(pixels[i : i + 1]).items():
            torch.testing.assert_close(score.values[0], whole[name].values[i], rtol=1e-5, atol=1e-6)


def test_overshooting_samples_are_clipped_and_broken_ones_refused(judge: ReplicationJudge) -> None:
    pixels = images(2, seed=5)[:, None] * 1.5
    clipped = judge.judge(pixels)[TILED_L2].values
    torch.testing.assert_close(clipped[:, 0], tiled_l2(pixels[:, 0].clamp(-1, 1), images(40)).amin(dim=1))
    with pytest.raises(ValueError, match="not finite"):
        judge.judge(torch.full((1, 1, 1, 8, 8), torch.nan))


def test_evaluations_a_prompt() -> None:
    assert evals_per_prompt(20, 16) == 640
