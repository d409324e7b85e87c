"""What already generated samples replicate: the detector that generates, in pixels and by a copy embedder.

No :class:`~cxrguard.probes.batch.Probe`: it is given samples, not noise; :mod:`cxrguard.audit.replication` makes them.
Build a :class:`ReplicationJudge` once from the audit's references and ask it for every group's ``Generated.pixels``;
thresholds come from real held-out images alone, as those of replays do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cxrguard.embedders.base import Embedder
from cxrguard.probes.tiled_l2 import GRID, NEIGHBOURS, neighbours

MIN_NULL = 100
TILED_L2, RATIO, EMBEDDER = "replication_tiled_l2", "replication_ratio", "replication_embedder"
DIRECTIONS = {TILED_L2: "lower", RATIO: "lower", EMBEDDER: "higher"}
"""Which scores mean memorized, by the score's name."""


@dataclass(frozen=True)
class ReplicationScore:
    """One score of ``K`` samples of each of ``N`` prompts.

    Attributes:
        name: a key of :data:`DIRECTIONS`.
        values: ``[N, K]``.
        index: ``[N, K]``, the row of the training image that a sample is nearest to.
        threshold: a sample beyond it is nearer to a training image than 99 % of real images; None where that cannot be had.

    """

    name: str
    values: Tensor
    index: Tensor
    threshold: float | None

    @property
    def direction(self) -> str:
        """``"higher"`` or ``"lower"``: which scores mean memorized."""
        return DIRECTIONS[self.name]

    def per_prompt(self, k: int | None = None) -> Float[Tensor, " n"]:
        """The score of the sample that looks most copied, of the first ``k`` (all by default)."""
        first = self.values[:, :k]
        return first.amax(dim=1) if self.direction == "higher" else first.amin(dim=1)

    def nearest(self, k: int | None = None) -> Int[Tensor, " n"]:
        """Row of the training image that the sample of :meth:`per_prompt` is nearest to."""
        first = self.values[:, :k]
        worst = first.argmax(dim=1) if self.direction == "higher" else first.argmin(dim=1)
        return self.index.gather(1, worst[:, None])[:, 0]

    def beyond(self, k: int | None = None) -> Bool[Tensor, " n"] | None:
        """Per prompt: whether one of its first ``k`` samples lies beyond the threshold; None without one."""
        if self.threshold is None:
            return None
        scores = self.per_prompt(k)
        return scores > self.threshold if self.direction == "higher" else scores < self.threshold


class ReplicationJudge:
    """Compares samples with the training images; what depends on the references alone is worked out once.

    Args:
        training: training images ``[M, 1, H, W]`` in [−1, 1], those of a base stage too: ``References.training_pixels``.
        null: *real* held-out images of other patients, ``[R, 1, H, W]``: ``References.null["pixels"]`` in the images' shape.
        embedder: fitted here on the training images; None judges in pixels alone.
        k: neighbours of the ratio, at most M − 1 (:func:`~cxrguard.probes.tiled_l2.neighbour_ratio`).
        grid: tiles a side.
        chunk: samples at once.

    Attributes:
        thresholds: by score; None with fewer than :data:`MIN_NULL` real images that are no copies of training images.
        n_copies: held-out images that equal a training image and set no threshold.

    Raises:
        ValueError: fewer than two training images, or images of another shape, see :mod:`cxrguard.probes.tiled_l2`.

    """

    def __init__(
        self,
        training: Float[Tensor, "m 1 h w"],
        null: Float[Tensor, "r 1 h w"],
        embedder: Embedder | None = None,
        *,
        k: int = NEIGHBOURS,
        grid: int = GRID,
        chunk: int = 256,
    ) -> None:
        self.training, self.k, self.grid, self.chunk = training, k, grid, chunk
        self.embedder = None if embedder is None else embedder.fit(training)
        self.embedded = None if self.embedder is None else self.embedder(training)
        measured = self._measure(null) if len(null) else {}
        # A copy of a training image under another patient's name would set thresholds that no replay passes.
        real = measured[TILED_L2][0] > 0 if measured else torch.zeros(0, dtype=torch.bool)
        self.n_copies = int((~real).sum())
        names = [name for name in DIRECTIONS if name != EMBEDDER or self.embedder is not None]
        self.thresholds = {name: null_threshold(measured[name][0][real], DIRECTIONS[name]) if measured else None for name in names}

    def judge(self, pixels: Float[Tensor, "n k 1 h w"]) -> dict[str, ReplicationScore]:
        """Every score of every sample, by the score's name.

        Args:
            pixels: ``K`` samples of each prompt (``Generated.pixels``); values that a decoder left outside [−1, 1] are clipped.

        """
        n, k = pixels.shape[:2]
        measured = self._measure(pixels.flatten(0, 1).clamp(-1, 1))
        return {
            name: ReplicationScore(name, values.reshape(n, k), index.reshape(n, k), self.thresholds[name])
            for name, (values, index) in measured.items()
        }

    def _measure(self, images: Tensor) -> Mapping[str, tuple[Tensor, Tensor]]:
        near = neighbours(images, self.training, k=self.k, grid=self.grid, chunk=self.chunk)
        found = {TILED_L2: (near.distance, near.index), RATIO: (near.ratio, near.index)}
        if self.embedder is not None and self.embedded is not None:
            found[EMBEDDER] = most_similar(self.embedder, images, self.embedded, self.chunk)
        return found


def most_similar(
    embedder: Embedder, images: Float[Tensor, "n 1 h w"], embedded: Float[Tensor, "m d"], chunk: int = 256
) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """max_j s(f(x), f(y_j)) and its j: the embedder's similarity (most: cosine, range [−1, 1]); higher means copied."""
    best = [embedder.similarity(embedder(part), embedded).max(dim=1) for part in images.split(chunk)]
    return torch.cat([b.values for b in best]), torch.cat([b.indices for b in best])


def null_threshold(scores: Float[Tensor, " r"], direction: str, quantile: float = 0.01) -> float | None:
    """The score that a share ``quantile`` of *real* images passes, by the rule of ``audit.extraction.replay_threshold``.

    The outer of the two neighbouring order statistics, so that chance alone stays at or under the quantile; for ``"higher"`` the mirror
    image. None with fewer than :data:`MIN_NULL` images: a 1 % quantile cannot be had from them.

    Raises:
        ValueError: ``direction`` is neither.

    """
    if direction not in ("higher", "lower"):
        raise ValueError(f"direction must be 'higher' or 'lower', not {direction!r}")
    if len(scores) < MIN_NULL:
        return None
    sign = 1.0 if direction == "lower" else -1.0
    return sign * float(torch.quantile(sign * scores.double(), quantile, interpolation="lower"))


def evals_per_prompt(sampling_steps: int, samples: int) -> int:
    """UNet evaluations that the samples of one prompt cost: two a step with guidance; the comparison costs none."""
    return 2 * sampling_steps * samples
