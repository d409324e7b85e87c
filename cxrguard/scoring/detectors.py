"""Which detectors need nothing but prompts, by name, and the columns that each adds to a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.errors import CxrguardError
from cxrguard.probes.anisotropy import Anisotropy
from cxrguard.probes.base_noise_gap import BaseNoiseGap
from cxrguard.probes.batch import Probe, ProbeBatch, needs
from cxrguard.probes.bright_ending import BrightEnding
from cxrguard.probes.cross_attention_entropy import CrossAttentionEntropy
from cxrguard.probes.noise_consistency import NoiseConsistency
from cxrguard.probes.pure_noise import PureNoiseNorm
from cxrguard.probes.relative import RelativeToBase
from cxrguard.probes.score_dynamics import ScoreDynamics
from cxrguard.probes.seed_convergence import SeedConvergence
from cxrguard.probes.sharpness import Sharpness
from cxrguard.probes.text_noise_norm import TextNoiseNorm

DEFAULT = "text_noise_norm"
RMS = "text_noise_norm_rms"
MEAN_STEPS = 50


@dataclass(frozen=True)
class Draws:
    """How much is drawn for a score.

    Args:
        steps: the first so many timesteps of a 50-step DDIM schedule, for the detectors that average along it.
        seeds: noises a prompt.

    """

    steps: int = 1
    seeds: int = 4


DETECTORS: dict[str, Callable[[Draws], Probe]] = {
    "text_noise_norm": lambda d: TextNoiseNorm(steps=d.steps, seeds=d.seeds),
    "text_noise_norm_mean": lambda d: TextNoiseNorm(name="text_noise_norm_mean", steps=MEAN_STEPS, seeds=d.seeds),
    "text_noise_norm_relative": lambda d: RelativeToBase(probe=TextNoiseNorm(steps=d.steps, seeds=d.seeds)),
    "pure_noise_norm": lambda d: PureNoiseNorm(seeds=d.seeds),
    "pure_noise_norm_relative": lambda d: RelativeToBase(probe=PureNoiseNorm(seeds=d.seeds)),
    "base_noise_gap": lambda d: BaseNoiseGap(seeds=d.seeds),
    "noise_consistency": lambda d: NoiseConsistency(seeds=d.seeds),
    "seed_convergence": lambda d: SeedConvergence(seeds=d.seeds),
    "score_dynamics": lambda d: ScoreDynamics(seeds=d.seeds),
    "cross_attention_entropy": lambda d: CrossAttentionEntropy(seeds=d.seeds),
    "cross_attention_entropy_late": lambda d: CrossAttentionEntropy(name="cross_attention_entropy_late", variant="D", seeds=d.seeds),
    "bright_ending": lambda d: BrightEnding(steps=d.steps, seeds=d.seeds),
    "sharpness": lambda d: Sharpness(seeds=d.seeds),
    "anisotropy": lambda d: Anisotropy(seeds=d.seeds),
}


def check_names(names: Sequence[str], *, has_base: bool) -> tuple[str, ...]:
    """The detectors to run, each once; :data:`RMS` is a column of :data:`DEFAULT`.

    Raises:
        CxrguardError: For a name that stands for nothing, or a detector that lacks its base.

    """
    wanted = tuple(dict.fromkeys(DEFAULT if name == RMS else name for name in names))
    if unknown := [name for name in wanted if name not in DETECTORS]:
        raise CxrguardError(f"Unknown detector {unknown[0]!r}: known are {', '.join(columns_of(tuple(DETECTORS)))}.")
    if not wanted:
        raise CxrguardError(f"No detector named: known are {', '.join(DETECTORS)}.")
    lacking = [] if has_base else [name for name in wanted if needs(DETECTORS[name](Draws()), "base")]
    if lacking:
        raise CxrguardError(
            f"The detector {lacking[0]!r} compares with the checkpoint that fine-tuning started from. Give it with --base DIR."
        )
    return wanted


def columns_of(names: Sequence[str]) -> tuple[str, ...]:
    """The columns that the detectors add, in order."""
    return tuple(column for name in names for column in ((name, RMS) if name == DEFAULT else (name,)))


class Detectors:
    """Several detectors at once.

    Args:
        names: of :data:`DETECTORS`, checked.
        draws: how much is drawn for a score.

    Attributes:
        columns: what :meth:`__call__` gives, in order.

    Raises:
        CxrguardError: If a detector cannot work with so few, or so many, draws.

    """

    def __init__(self, names: Sequence[str], draws: Draws) -> None:
        self.columns = columns_of(names)
        try:
            self._probes = {name: DETECTORS[name](draws) for name in names}
        except ValueError as error:
            raise CxrguardError(f"These detectors cannot be had with --steps {draws.steps} --seeds {draws.seeds}: {error}.") from None

    @property
    def evals_per_prompt(self) -> int:
        """UNet evaluations a prompt, of all detectors together."""
        return sum(probe.evals_per_prompt for probe in self._probes.values())

    def sign(self, column: str) -> int:
        """1 where a higher score means memorized, else −1."""
        return 1 if self._probes[DEFAULT if column == RMS else column].direction == "higher" else -1

    def __call__(self, denoiser: Denoiser, batch: ProbeBatch) -> Tensor:
        """Scores ``[N, columns]``, float32, on the CPU."""
        scores = []
        for name, probe in self._probes.items():
            score = probe(denoiser, batch).float()
            scores += [score, score / math.sqrt(batch.latents[0].numel())] if name == DEFAULT else [score]
        return torch.stack(scores, dim=1).cpu()
