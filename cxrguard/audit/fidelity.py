"""Do generated images show what their prompts ask for, and do they look real? Figures to compare arms by, beside the held-out loss."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from cxrguard.audit.evaluate import Evaluator
from cxrguard.audit.feature_distance import kernel_distance
from cxrguard.audit.label_agreement import Asked, agreement, fit_label
from cxrguard.audit.label_reader import Scale
from cxrguard.data.encoded import to_pixel_values
from cxrguard.data.prepare import PromptedRecord, Study
from cxrguard.data.records import ReportRecord
from cxrguard.embedders.base import Embedder
from cxrguard.randomness import numpy_generator

Floats = NDArray[np.float64]
MIN_PATIENTS = 20
"""A label is named only if at least so many patients of the study have it, see DESIGN section 5."""
GRID = 16
"""Cells a side of the mean greys that stand for features where the run has no embedder."""
TOO_FEW = "the run has no held-out image beside its controls to learn labels from"


def labels_of(record: ReportRecord) -> dict[str, bool]:
    """What is known of an image; findings that a record with labels does not list are not there."""
    found = {f"finding: {label}": True for label in record.labels}
    if record.sex:
        found["sex: female"] = record.sex == "F"
    if record.view:
        found["view: AP"] = record.view == "AP"
    return found


def _asked(records: Sequence[ReportRecord], name: str) -> Asked:
    """For each record 1 where the label is there, 0 where it is not, NaN where nothing is known."""
    finding = name.startswith("finding: ")
    values = [labels_of(r).get(name, False if finding and r.labels else np.nan) for r in records]
    return np.array(values, np.float64)


@dataclass(frozen=True)
class Fidelity:
    """How fidelity is measured.

    A linear reader of each label is fitted on features of real held-out images. It reads the label from the images that the controls'
    prompts generate, and its AUC over prompts with and without the label says how well an image shows what was asked for. Only labels that
    it can read from the controls' own real images count. The kernel distance says how far the same images are from real ones.

    Attributes:
        embedder: whose features are used; None takes mean greys of a coarse grid.
        samples_per_prompt: of those that the audit generates, at most.
        max_real: held-out images, at most.

    """

    embedder: Embedder | None = None
    samples_per_prompt: int = 2
    max_real: int = 300

    def fit(self, evaluator: Evaluator, study: Study) -> FittedFidelity:
        """Learn what real images look like; the same whatever the model is."""
        real = _some(study.heldout, self.max_real, evaluator.seed)
        controls = study.controls
        pixels = to_pixel_values([p.pixels for p in [*real, *controls]]) if real else torch.zeros(0, 1, 1, 1)
        features = self.features(pixels) if real else np.zeros((0, 1))
        scale = Scale.of(features[: len(real)]) if real else Scale(np.zeros(1), np.ones(1))
        records = [p.record for p in [*study.members, *real, *controls]]
        return FittedFidelity(
            self, [p.record for p in real], [p.record for p in controls], scale, scale(features), _names(records), evaluator.seed
        )

    def features(self, images: Tensor) -> Floats:
        """Features ``[N, D]`` of grey images ``[N, 1, H, W]`` in [−1, 1]."""
        given = images.clamp(-1, 1)
        found = adaptive_avg_pool2d(given, GRID).flatten(1) if self.embedder is None else self.embedder.features(given)
        return np.asarray(found.double().numpy())


@dataclass(frozen=True)
class FittedFidelity:
    """Readers and real images of one study; features are of ``real``, then of ``controls``, scaled."""

    settings: Fidelity
    real: list[ReportRecord]
    controls: list[ReportRecord]
    scale: Scale
    features: Floats
    names: list[str]
    seed: int

    def measure(self, pixels: Tensor, per_draw: int, kept: NDArray[np.bool_] | None = None) -> dict[str, Any]:
        """Fidelity of images that the controls' prompts generated.

        Args:
            pixels: ``[N, V·K, 1, H, W]``, draw-major, as :class:`~cxrguard.audit.evaluate.Generated` has them; of a prompt's V wordings
                the last, which was trained on, is looked at.
            per_draw: V.
            kept: prompts that anything was generated from, ``[N]``; all by default.

        Returns:
            ``labels``: ``auc`` and ``balanced_accuracy`` (means over the labels that can be read) with ``auc_ci`` and
            ``balanced_accuracy_ci`` (prompts resampled), ``real_auc`` (the same of the controls' real images), ``by_label``.
            ``distance``: see :func:`~cxrguard.audit.feature_distance.kernel_distance`, with ``real_kid`` of the controls' real images.
            ``features``, ``samples_per_prompt``, ``n_prompts`` and ``n_real`` say what they rest on.

        """
        chosen = np.flatnonzero(np.ones(len(pixels), bool) if kept is None else kept)
        images = pixels[torch.from_numpy(chosen)][:, per_draw - 1 :: per_draw][:, : self.settings.samples_per_prompt]
        told = {
            "features": "mean_greys" if self.settings.embedder is None else self.settings.embedder.name,
            "samples_per_prompt": images.shape[1],
            "n_prompts": len(chosen),
            "n_real": len(self.real),
        }
        reason = TOO_FEW if not self.real else "no image was generated" if not len(chosen) else None
        if reason:
            return told | {"labels": _no_labels(reason), "distance": _no_distance(reason)}
        generated = self.scale(self.settings.features(images.flatten(0, 1)))
        prompts = np.repeat(chosen, images.shape[1])
        return told | {"labels": self._labels(generated, prompts), "distance": self._distance(generated, prompts)}

    def _labels(self, generated: Floats, prompts: NDArray[np.int64]) -> dict[str, Any]:
        n = len(self.real)
        fitted = [
            fit_label(name, self.features[:n], _asked(self.real, name), self.features[n:], _asked(self.controls, name), self.seed)
            for name in self.names
        ]
        return agreement(fitted, generated, prompts, self.seed)

    def _distance(self, generated: Floats, prompts: NDArray[np.int64]) -> dict[str, Any]:
        n = len(self.real)
        patients = [r.subject_id for r in self.real]
        own = [r.subject_id for r in self.controls]
        found = kernel_distance(generated, self.features[:n], prompts.tolist(), patients, self.seed)
        # without an interval: it is there to hold the other against
        floor = kernel_distance(self.features[n:], self.features[:n], own, patients, self.seed, n=0)
        return found | {"real_kid": floor["kid"]}


def _some(samples: Sequence[PromptedRecord], most: int, seed: int) -> list[PromptedRecord]:
    rows = sorted(numpy_generator("fidelity-real", seed).permutation(len(samples))[:most].tolist())
    return [samples[i] for i in rows]


def _names(records: Sequence[ReportRecord]) -> list[str]:
    """Labels that enough patients have."""
    patients: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for name, there in labels_of(record).items():
            if there:
                patients[name].add(record.subject_id)
    return sorted(name for name, having in patients.items() if len(having) >= MIN_PATIENTS)


def _no_labels(reason: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("auc", "auc_ci", "balanced_accuracy", "balanced_accuracy_ci", "real_auc"))
    return {**nothing, "by_label": {}, "reason": reason}


def _no_distance(reason: str) -> dict[str, Any]:
    return {"kid": None, "kid_ci": None, "real_kid": None, "reason": reason}
