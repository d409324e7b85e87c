"""Score, generate and compare: what the schedule does in small and the final audit in full."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxrguard.audit.detectors import LOW_FPR
from cxrguard.audit.exposure import exposure
from cxrguard.audit.extraction import Replays, chance_rate, find_replays, nearest, replay_threshold
from cxrguard.audit.groups import Judged, validation_group
from cxrguard.audit.statistics import oriented, roc_auc, tpr_at_fpr
from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.diffusion.encoding import decode_latents, encode_prompts
from cxrguard.diffusion.loading import PipelineParts
from cxrguard.diffusion.sampling import Sampler
from cxrguard.errors import BadInputError, CxrguardError
from cxrguard.probes.batch import Probe
from cxrguard.progress import progress_of
from cxrguard.randomness import normal

SPACES = ("pixels", "latents")
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Generated:
    """``K`` samples of each of a group's prompts, all variants of a prompt side by side.

    Attributes:
        pixels: ``[N, V·K, 1, H, W]``, draw-major, so that the first V·k belong to the first k draws.
        replays: by space.
        per_draw: V, samples a draw.

    """

    pixels: Tensor
    replays: dict[str, Replays]
    per_draw: int

    @property
    def draws(self) -> int:
        """K, draws a prompt."""
        return self.pixels.shape[1] // self.per_draw

    def rate(self, space: str, outcome: str, k: int) -> float | None:
        """Share of prompts that replay within ``k`` draws by any variant (the worse variant counts)."""
        return self.replays[space].rate(outcome, k * self.per_draw)

    def hits(self, space: str, outcome: str, k: int) -> Tensor:
        """Per prompt, see :meth:`rate`."""
        return self.replays[space].hits(outcome, k * self.per_draw)


class Evaluator:
    """Judges a denoiser against the fixed groups, with fixed noise: the same weights give the same figures.

    Args:
        parts: the pipeline, for its VAE.
        judged: the groups and references.
        sampler: how images are generated.
        seed: of all noise.
        batch_size: prompts a probe sees at once.
        base: the checkpoint that fine-tuning started from, for the probes that compare with it.

    Raises:
        BadInputError: too few real held-out images to set the replay thresholds.

    """

    def __init__(
        self, parts: PipelineParts, judged: Judged, sampler: Sampler, seed: int, batch_size: int = 64, base: Denoiser | None = None
    ) -> None:
        self.base = base
        self.parts, self.judged, self.sampler, self.seed, self.batch_size = parts, judged, sampler, seed, batch_size
        null, training = judged.references.null, judged.references.training
        with progress_of("replay thresholds: held-out images", sum(len(null[space]) for space in SPACES)) as advance:
            distances = {space: nearest(null[space], training[space], on_part=advance)[0] for space in SPACES}
        # A copy of a training image under another patient's name would make the threshold 0, and every replay unseen. Only
        # pixels show it exactly: latents of equal images differ by rounding.
        real = distances["pixels"] > 0
        self.n_null, self.n_copies = int(real.sum()), int((~real).sum())
        self.thresholds: dict[str, float] = {}
        for space in SPACES:
            threshold = replay_threshold(distances[space][real])
            if threshold is None:
                raise BadInputError(
                    f"{self.n_null} held-out images (beside {self.n_copies} copies of training images) are too few "
                    "for a 1 % threshold, 100 are needed; "
                    "raise data.heldout_fraction or use more data"
                )
            self.thresholds[space] = threshold
        self.detectable = self._detectable()

    def _detectable(self) -> float:
        """Share of canaries that would count as replayed if the model gave back their latents exactly.

        Below 1 the autoencoder's own error hides replays in pixels, and "not extracted" says nothing.
        """
        canaries = self.judged.groups["canaries"]
        error = (decode_latents(self.parts, canaries.latents).cpu() - canaries.pixels.cpu()).square().flatten(1).mean(dim=1)
        return float((error < self.thresholds["pixels"]).double().mean())

    def looking_at(self, **rows: Sequence[int]) -> Evaluator:
        """The same judge, thresholds and noise, for some rows of the groups that are named; see :meth:`Group.take`."""
        fewer = copy.copy(self)
        fewer.judged = replace(self.judged, groups={name: self.judged.groups[name].take(chosen) for name, chosen in rows.items()})
        return fewer

    def generating(self, prompts: Sequence[str]) -> Evaluator:
        """The same judge with one group, ``validation``, of these prompts."""
        other = copy.copy(self)
        group = validation_group(self.parts, prompts, self.judged.groups["canaries"])
        other.judged = replace(self.judged, groups={group.name: group})
        return other

    def encoded_again(self) -> Evaluator:
        """The same judge, with the prompts as the pipeline's text encoder reads them now: one that is trained has changed."""
        other = copy.copy(self)
        other.judged = self.judged.encoded_by(lambda prompts: encode_prompts(self.parts, prompts))
        return other

    @property
    def calibration(self) -> dict[str, Any]:
        """What the thresholds rest on, for the audit."""
        return {
            "null_n": self.n_null,
            "null_copies": self.n_copies,
            "chance_rate": chance_rate(self.n_null),
            "detectable": self.detectable,
            "wordings": max(len(g.variants) for g in self.judged.groups.values()),
            "thresholds": dict(self.thresholds),
        }

    def score(self, denoiser: Denoiser, probe: Probe, group: str) -> Scores:
        """Scores ``[N]``; of a prompt's variants the one that looks more memorized."""
        worst = np.max if probe.direction == "higher" else np.min
        n_variants = len(self.judged.groups[group].variants)
        return np.asarray(worst(np.stack([self._score_variant(denoiser, probe, group, v) for v in range(n_variants)]), axis=0))

    @torch.no_grad()
    def _score_variant(self, denoiser: Denoiser, probe: Probe, group: str, variant: int) -> Scores:
        batch = replace(self.judged.batch(group, variant, self.seed, self.sampler.scheduler_config), base=self.base)
        return torch.cat([probe(denoiser, part).cpu() for part in batch.split(self.batch_size)]).double().numpy()

    def generate(
        self, denoiser: Denoiser, group: str, k: int, on_batch: Callable[[int], None] | None = None, stream: str = "sample"
    ) -> Generated:
        """Generate ``k`` samples a prompt and variant, and find what they replay; another ``stream`` gives other noise."""
        g = self.judged.groups[group]
        jobs = [(i, v, draw) for i in range(len(g)) for draw in range(k) for v in range(len(g.variants))]
        shape = tuple(g.latents.shape[1:])
        device = g.latents.device
        noise = torch.stack([normal(shape, stream, self.seed, g.variants[v].keys[i], draw) for i, v, draw in jobs]).to(device)
        states = torch.stack([g.variants[v].states[i] for i, v, _ in jobs])
        latents = self.sampler(denoiser, states, self.judged.uncond_hidden_states, noise, on_batch)
        _check_finite(latents)
        pixels = decode_latents(self.parts, latents).cpu()
        per_prompt = k * len(g.variants)
        spaces = {"pixels": pixels, "latents": latents.cpu()}
        own = {"pixels": g.pixels.flatten(1).cpu(), "latents": g.latents.flatten(1).cpu()} if g.has_images else {}
        training, owner = self.judged.references.training, self.judged.references.owner
        replays = {
            name: find_replays(x.reshape(len(g), per_prompt, -1), training[name], g.own_index, self.thresholds[name], own.get(name), owner)
            for name, x in spaces.items()
        }
        return Generated(pixels.reshape(len(g), per_prompt, *pixels.shape[1:]), replays, len(g.variants))

    def n_samples(self, plan: Mapping[str, int]) -> int:
        """Samples that :meth:`generate` makes for a plan (samples a prompt by group), for a progress bar."""
        return sum(len(self.judged.groups[name]) * len(self.judged.groups[name].variants) * k for name, k in plan.items())


def _check_finite(latents: Tensor) -> None:
    """A diverged model replays nothing, which must not be taken for safe."""
    broken = int((~torch.isfinite(latents)).flatten(1).any(dim=1).sum())
    if broken:
        raise CxrguardError(
            f"{broken} of {len(latents)} generated samples are not finite: the model has diverged, and nothing can be said about it; "
            "lower model.module.learning_rate or train in 32-true precision"
        )


def planted_auc(evaluator: Evaluator, denoiser: Denoiser, probe: Probe) -> dict[str, Any]:
    """Canaries against controls at one point of the schedule, with nothing assumed about replay.

    Returns:
        ``auc``; ``tpr_at_1pct_fpr``, None with fewer than 100 controls; ``exposure``, the canaries' mean bits, and
        ``exposure_by_repeats``, the same at each level of repeats; the mean scores.

    """
    canaries, controls = (evaluator.score(denoiser, probe, name) for name in ("canaries", "controls"))
    direction: Any = probe.direction
    bits = exposure(oriented(canaries, direction), oriented(controls, direction))
    repeats = np.asarray(evaluator.judged.groups["canaries"].repeats)
    return {
        "auc": roc_auc(canaries, controls, direction),
        "tpr_at_1pct_fpr": tpr_at_fpr(canaries, controls, LOW_FPR, direction),
        "exposure": float(bits.mean()),
        "exposure_by_repeats": {str(level): float(bits[repeats == level].mean()) for level in np.unique(repeats).tolist()},
        "canary_mean": float(canaries.mean()),
        "control_mean": float(controls.mean()),
    }
