"""Scores wordings of prompts, each under the noise of the prompt that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cxrguard.scoring.detectors import RMS, Detectors, Draws, check_names
from cxrguard.scoring.model import ScoringModel, fits_in_memory


class NoiseKeyedScorer:
    """Scores prompts by one detector, each under the noise of its key; see :data:`cxrguard.audit.marker_test.KeyedScorer`.

    Args:
        model: the model.
        detector: a name of ``cxrguard score``.
        draws: steps and seeds.
        seed: of the noise.
        batch_size: prompts at once.

    Attributes:
        direction: ``"higher"`` or ``"lower"``: which scores mean memorized.
        evals_per_prompt: UNet evaluations a scoring.
        scored: scorings so far.

    """

    def __init__(self, model: ScoringModel, detector: str, draws: Draws, seed: int, batch_size: int) -> None:
        self._detectors = Detectors(check_names([detector], has_base=True), draws)
        self._column = self._detectors.columns.index(RMS if detector == RMS else detector)
        self._model, self._seed, self._batch_size = model, seed, batch_size
        self.direction = "higher" if self._detectors.sign(detector) == 1 else "lower"
        self.evals_per_prompt, self.scored = self._detectors.evals_per_prompt, 0

    def __call__(self, prompts: Sequence[str], keys: Sequence[str]) -> NDArray[np.float64]:
        """Scores ``[N]``; what occurs twice under one key is scored once.

        Raises:
            CxrguardError: If the model cannot be used for it, or runs out of memory.

        """
        pairs = list(dict.fromkeys(zip(prompts, keys, strict=True)))
        found: dict[tuple[str, str], float] = {}
        for start in range(0, len(pairs), self._batch_size):
            some = pairs[start : start + self._batch_size]
            found |= zip(some, self._score(some), strict=True)
        self.scored += len(pairs)
        return np.array([found[pair] for pair in zip(prompts, keys, strict=True)], dtype=np.float64)

    def _score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        with fits_in_memory(len(pairs)):
            batch = replace(self._model.batch([text for text, _ in pairs], self._seed), keys=tuple(key for _, key in pairs))
            scores: list[float] = self._detectors(self._model.denoiser, batch)[:, self._column].tolist()
        return scores
