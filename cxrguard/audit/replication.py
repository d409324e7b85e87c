"""Replication as a detector of the audit: samples of its own, compared with the training images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrguard.audit.evaluate import Evaluator
from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.embedders.base import Embedder
from cxrguard.probes.replication import DIRECTIONS, EMBEDDER, ReplicationJudge, evals_per_prompt


@dataclass(frozen=True)
class ReplicationDetector:
    """One score by generating, as the audit lists it: attributes as of a :class:`~cxrguard.probes.batch.Probe`."""

    name: str
    direction: str
    evals_per_prompt: int


@dataclass(frozen=True)
class Replication:
    """The detectors that generate: tiled l2 to the nearest training image, its ratio to the next, a copy embedder.

    Its samples come from noise of their own: judged on the samples that decide what replayed, it would judge itself. It still
    measures what the outcome measures, a sample's distance to the nearest training image, so its AUC says how well a replay comes
    again, not what could be told without generating. Every prompt gets the same number of samples in each wording, since the
    best of more looks more copied.

    Attributes:
        embedder: None judges in pixels alone.
        samples: a prompt and wording; at least 1.

    """

    embedder: Embedder | None = None
    samples: int = 1

    def detectors(self, evaluator: Evaluator) -> list[ReplicationDetector]:
        """What :meth:`score` gives, in its order."""
        cost = evals_per_prompt(evaluator.sampler.steps, self.samples)
        names = [name for name in DIRECTIONS if name != EMBEDDER or self.embedder is not None]
        return [ReplicationDetector(name, DIRECTIONS[name], cost) for name in names]

    def score(
        self, evaluator: Evaluator, denoiser: Denoiser, groups: Sequence[str], on_batch: Callable[[int], None] | None = None
    ) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Scores ``[N]`` by detector and group: of a prompt's samples, in all its wordings, the one that looks most copied."""
        judge = ReplicationJudge(evaluator.judged.references.training_pixels, self.embedder)
        scores: dict[str, dict[str, NDArray[np.float64]]] = {name: {} for name in judge.names}
        for group in groups:
            samples = evaluator.generate(denoiser, group, self.samples, on_batch, stream="replication")
            for name, values in judge.judge(samples.pixels).items():
                scores[name][group] = values.double().numpy()
        return scores
