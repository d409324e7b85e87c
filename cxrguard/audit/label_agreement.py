"""Labels that prompts ask for against labels that are read from the images: AUC and balanced accuracy over prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrguard.audit.detectors import Scored, area
from cxrguard.audit.label_reader import LabelReader, fit_reader
from cxrguard.audit.resampling import Weights, cluster_ids, draw_clusters, percentiles, ratio, weighted_auc

Floats = NDArray[np.float64]
Asked = NDArray[np.float64]  # 1 the label is there, 0 it is not, NaN nothing is known
MIN_TO_LEARN = 10  # real images with, and without, the label
MIN_TO_JUDGE = 5  # controls with, and without, it


@dataclass(frozen=True)
class FittedLabel:
    """A label's reader, and what the controls' prompts ask for; without a ``reader`` it says why in ``reason``."""

    name: str
    asked: Asked
    reader: LabelReader | None
    real_auc: float | None
    real_auc_ci: list[float] | None
    reason: str | None

    @property
    def counts(self) -> bool:
        """Whether the label can be read: the AUC's interval on real images that the reader has not seen lies above chance."""
        return self.reason is None


def fit_label(name: str, features: Floats, there: Asked, control_features: Floats, asked: Asked, seed: int) -> FittedLabel:
    """Fit a reader on real images and try it on the controls' real images."""
    known = ~np.isnan(there)
    labels = there[known] == 1
    learn, judge = (min(int(x.sum()), int((~x).sum())) for x in (labels, asked[~np.isnan(asked)] == 1))
    if learn < MIN_TO_LEARN or judge < MIN_TO_JUDGE:
        reason = f"{MIN_TO_LEARN} real images to learn from and {MIN_TO_JUDGE} controls are needed with the label and without it"
        return FittedLabel(name, asked, None, None, None, reason)
    reader = fit_reader(features[known], labels)
    scores = reader(control_features)
    auc, interval = area(Scored.of(scores[asked == 1]), Scored.of(scores[asked == 0]), "higher", seed, 1000)
    readable = interval is not None and interval[0] > 0.5
    blind = "cannot be read from the controls' real images: the interval of its AUC there reaches chance"
    return FittedLabel(name, asked, reader, auc, interval, None if readable else blind)


def agreement(labels: Sequence[FittedLabel], features: Floats, prompts: NDArray[np.int64], seed: int, n: int = 1000) -> dict[str, Any]:
    """How well generated images show the labels of their prompts.

    Args:
        labels: fitted ones.
        features: of the images, ``[N, D]``, scaled as the reader's.
        prompts: which control's prompt each image is of, ``[N]``.
        seed: of the bootstrap over prompts.
        n: its draws.

    Returns:
        See :meth:`cxrguard.audit.fidelity.FittedFidelity.measure`. Chance is 0.5 throughout.

    """
    counted = [label for label in labels if label.counts]
    told: dict[str, Any] = {"by_label": {label.name: _one(label, features, prompts, seed) for label in labels}}
    parts = [_split(label, features, prompts) for label in counted]
    if not parts or any(min(pos.size, neg.size) == 0 for pos, neg, *_ in parts):
        reason = "none of the labels can be read" if not parts else "a label that can be read is asked for by all prompts or by none"
        nothing = dict.fromkeys(("auc", "auc_ci", "balanced_accuracy", "balanced_accuracy_ci", "real_auc"))
        return nothing | told | {"reason": reason}
    ids = cluster_ids(prompts.tolist())
    for name, figure in (("auc", _mean_auc), ("balanced_accuracy", _mean_accuracy)):
        generator = np.random.default_rng(seed)

        def draw(size: int, figure: Any = figure, generator: np.random.Generator = generator) -> Weights:
            return np.asarray(figure(parts, draw_clusters(ids, np.ones(size, np.int64), generator)))

        interval = percentiles(draw, n)
        told |= {name: float(figure(parts, np.ones((1, len(ids))))[0]), f"{name}_ci": None if interval is None else list(interval)}
    known = [label.real_auc for label in counted if label.real_auc is not None]
    return told | {"real_auc": float(np.mean(known)), "reason": None}


Part = tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64]]


def _split(label: FittedLabel, features: Floats, prompts: NDArray[np.int64]) -> Part:
    """Scores of the images that should show the label and of those that should not, and their rows."""
    assert label.reader is not None
    scores, asked = label.reader(features), label.asked[prompts]
    with_it, without = np.flatnonzero(asked == 1), np.flatnonzero(asked == 0)
    return scores[with_it], scores[without], with_it, without


def _mean_auc(parts: Sequence[Part], weights: Weights) -> Weights:
    return np.asarray(np.mean([weighted_auc(pos, neg, weights[:, p], weights[:, q]) for pos, neg, p, q in parts], axis=0))


def _mean_accuracy(parts: Sequence[Part], weights: Weights) -> Weights:
    def share(weights: Weights, right: NDArray[np.bool_]) -> Weights:
        return ratio(weights @ right.astype(np.float64), weights.sum(axis=1))

    return np.asarray(np.mean([(share(weights[:, p], pos > 0) + share(weights[:, q], neg <= 0)) / 2 for pos, neg, p, q in parts], axis=0))


def _one(label: FittedLabel, features: Floats, prompts: NDArray[np.int64], seed: int) -> dict[str, Any]:
    """A label's own figures."""
    figures: dict[str, Any] = {"auc": None, "auc_ci": None, "balanced_accuracy": None}
    asked = label.asked[np.unique(prompts)]
    counts = {"n_with": int((asked == 1).sum()), "n_without": int((asked == 0).sum())}
    reason = label.reason
    if label.reader is not None:
        pos, neg, p, q = _split(label, features, prompts)
        auc, interval = area(Scored.of(pos, prompts[p].tolist()), Scored.of(neg, prompts[q].tolist()), "higher", seed, 1000)
        accuracy = None if auc is None else float(_mean_accuracy([(pos, neg, p, q)], np.ones((1, len(prompts))))[0])
        figures = {"auc": auc, "auc_ci": interval, "balanced_accuracy": accuracy}
        if interval is None and reason is None:
            reason = "too few prompts with the label or without it"
    real = {"real_auc": label.real_auc, "real_auc_ci": label.real_auc_ci}
    return figures | real | counts | {"counts": label.counts, "reason": reason}
