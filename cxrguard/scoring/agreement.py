"""Where gradient and ablation disagree, and what lies outside the words, over all prompts of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrguard.probes.tokens import SECTIONS
from cxrguard.scoring.attribution import WORD, Attribution
from cxrguard.scoring.cells import finite
from cxrguard.scoring.clustered import ClusteredMean
from cxrguard.scoring.corpus_words import ABLATION, GRADIENT, PRODUCT, opposite_signs

MIN_WORDS = 3  # two words are in one order or the other, which is no correlation


def rank_correlation(one: ArrayLike, other: ArrayLike) -> float | None:
    """Spearman's ρ, ties by their mean rank; None where a side is all alike."""
    a, b = (_ranks(np.asarray(side, dtype=np.float64)) for side in (one, other))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else None


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered = np.sort(values)
    ranks: NDArray[np.float64] = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2
    return ranks


class Agreement:
    """Compares the two attributions prompt by prompt: within a prompt, for between prompts sizes differ."""

    def __init__(self) -> None:
        self._correlations = {name: ClusteredMean() for name in (GRADIENT, PRODUCT)}
        self._opposite, self._top = ClusteredMean(), ClusteredMean()
        self._sections = {name: (ClusteredMean(), ClusteredMean()) for name in SECTIONS}

    def add(self, found: Attribution) -> None:
        """Takes note of a prompt that was not met before."""
        for section in found.sections:
            for mean, value in zip(self._sections[SECTIONS[section.index]], (section.gradient, section.gradient_times_input), strict=True):
                mean.add([value] if value is not None and finite(value) is not None else [])
        words = [piece for piece in found.pieces if piece.level == WORD]
        known = [
            w for w in words if all((v := getattr(w, name)) is not None and finite(v) is not None for name in (GRADIENT, PRODUCT, ABLATION))
        ]
        self._opposite.add([float(opposite_signs(word)) for word in known])
        if len(known) >= MIN_WORDS:
            self._compare({name: [getattr(word, name) for word in known] for name in (GRADIENT, PRODUCT, ABLATION)})

    def _compare(self, values: dict[str, Sequence[float]]) -> None:
        for name, mean in self._correlations.items():
            rho = rank_correlation(values[name], values[ABLATION])
            mean.add([] if rho is None else [rho])
        self._top.add([float(np.argmax(values[PRODUCT]) != np.argmax(values[ABLATION]))])

    def told(self) -> dict[str, Any]:
        """Plain types: every figure a mean over prompts with its 95 % interval."""
        return {
            "rank_correlation_with_ablation": {name: mean.told() for name, mean in self._correlations.items()},
            "words_of_opposite_sign": self._opposite.told(),
            "prompts_of_another_top_word": self._top.told(),
            "sections": {
                name: {"gradient": gradient.told(), "gradient_times_input": change.told()}
                for name, (gradient, change) in self._sections.items()
            },
        }
