"""What already generated samples replicate: the detectors that generate, in pixels and by a copy embedder.

No :class:`~cxrguard.probes.batch.Probe`: they are given samples, not noise; :mod:`cxrguard.audit.replication` makes them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.embedders.base import Embedder
from cxrguard.probes.tiled_l2 import GRID, NEIGHBOURS, neighbours
from cxrguard.rows import Rows, block_rows

TILED_L2, RATIO, EMBEDDER = "replication_tiled_l2", "replication_ratio", "replication_embedder"
DIRECTIONS = {TILED_L2: "lower", RATIO: "lower", EMBEDDER: "higher"}
"""Which scores mean memorized, by the score's name."""


class ReplicationJudge:
    """Compares samples with the training images; what depends on these alone is worked out once.

    Args:
        training: training images ``[M, 1, H, W]`` in [−1, 1], those of a base stage too: ``References.training_pixels``.
        embedder: fitted here on the training images; None judges in pixels alone.
        k: neighbours of the ratio, at most M − 1 (:func:`~cxrguard.probes.tiled_l2.neighbour_ratio`).
        grid: tiles a side.
        chunk: samples at once.

    Attributes:
        names: the scores that it gives, keys of :data:`DIRECTIONS`.

    """

    def __init__(
        self,
        training: Float[Tensor, "m 1 h w"] | Rows,
        embedder: Embedder | None = None,
        *,
        k: int = NEIGHBOURS,
        grid: int = GRID,
        chunk: int = 256,
    ) -> None:
        self.training, self.k, self.grid, self.chunk = training, k, grid, chunk
        self.embedder = None if embedder is None else embedder.fit(training)
        self.embedded = None if self.embedder is None else _embed(self.embedder, training)
        self.names = tuple(name for name in DIRECTIONS if name != EMBEDDER or embedder is not None)

    def judge(self, pixels: Float[Tensor, "n k 1 h w"]) -> dict[str, Float[Tensor, " n"]]:
        """Every score by its name: of each prompt's ``K`` samples that of the one that looks most copied.

        Args:
            pixels: ``Generated.pixels``; values that a decoder left outside [−1, 1] are clipped.

        Raises:
            ValueError: fewer than two training images, or images of another shape, see :mod:`cxrguard.probes.tiled_l2`.

        """
        n, k = pixels.shape[:2]
        scores = {name: values.reshape(n, k) for name, values in self._measure(pixels.flatten(0, 1).clamp(-1, 1)).items()}
        return {name: each.amax(dim=1) if DIRECTIONS[name] == "higher" else each.amin(dim=1) for name, each in scores.items()}

    def _measure(self, images: Tensor) -> dict[str, Tensor]:
        near = neighbours(images, self.training, k=self.k, grid=self.grid, chunk=self.chunk)
        found = {TILED_L2: near.distance, RATIO: near.ratio}
        if self.embedder is not None and self.embedded is not None:
            parts = [self.embedder.similarity(self.embedder(part), self.embedded).amax(dim=1) for part in images.split(self.chunk)]
            found[EMBEDDER] = torch.cat(parts)
        return found


def _embed(embedder: Embedder, training: Rows) -> Float[Tensor, "m d"]:
    """Vectors of all training images, of which a block is in memory at a time; the vectors are small and all are."""
    return torch.cat([embedder(block) for block in training.split(block_rows(training))])


def evals_per_prompt(sampling_steps: int, samples: int) -> int:
    """UNet evaluations that the samples of one prompt cost: two a step with guidance; the comparison costs none."""
    return 2 * sampling_steps * samples
