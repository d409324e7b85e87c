"""Reads a label off images: a linear reader of their features, fitted on real images that were never trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
RIDGE = 1.0
"""Best of 0.3 to 30 for six of seven labels of NIH ChestX-ray14, read off features of 200 images."""


@dataclass(frozen=True)
class Scale:
    """Features with mean 0 and variance 1 over the images that it was learned from."""

    mean: Floats
    std: Floats

    @classmethod
    def of(cls, features: Floats) -> Scale:
        """Learn it from ``[N, D]``; a feature that never varies stays 0."""
        std = features.std(axis=0)
        return cls(features.mean(axis=0), np.where(std > 1e-6, std, np.inf))

    def __call__(self, features: Floats) -> Floats:
        """Scaled features."""
        scaled: Floats = (features - self.mean) / self.std
        return scaled


@dataclass(frozen=True)
class LabelReader:
    """score = wᵀ(x − m) + b; above 0 the label is read as there."""

    weights: Floats
    centre: Floats
    bias: float

    def __call__(self, features: Floats) -> Floats:
        """Scores ``[N]`` of features ``[N, D]``; higher means that the label is there."""
        scores: Floats = (features - self.centre) @ self.weights + self.bias
        return scores


def fit_reader(features: Floats, labels: Flags, ridge: float = RIDGE) -> LabelReader:
    """Ridge regression of ±1 on scaled features, both classes with the same total weight (Hastie et al. 2009, sections 3.4.1 and 4.2).

    With s_i = √(weight of image i) it solves min Σ s_i² (y_i − b − wᵀ(x_i − m))² + ridge · D ‖w‖² in its dual form, since there are fewer
    images than features.

    Args:
        features: ``[N, D]``, scaled.
        labels: ``[N]``, some of either kind.
        ridge: against D, the number of features.

    Raises:
        ValueError: all labels are alike.

    """
    positives, n = int(labels.sum()), len(labels)
    if positives in (0, n):
        raise ValueError("a reader needs images with the label and images without it")
    weights = np.where(labels, n / (2 * positives), n / (2 * (n - positives)))
    share = weights / weights.sum()
    targets = np.where(labels, 1.0, -1.0)
    centre, bias = share @ features, float(share @ targets)
    root = np.sqrt(weights)
    rows = root[:, None] * (features - centre)
    dual = np.linalg.solve(rows @ rows.T / features.shape[1] + ridge * np.eye(n), root * (targets - bias))
    return LabelReader(rows.T @ dual / features.shape[1], centre, bias)
