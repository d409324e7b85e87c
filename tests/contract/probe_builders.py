"""How the contract builds each probe class. A new class in ``cxrguard/probes/`` needs an entry here, or the contract fails."""

from __future__ import annotations

from collections.abc import Callable

from cxrguard.probes.anisotropy import Anisotropy
from cxrguard.probes.base_noise_gap import BaseNoiseGap
from cxrguard.probes.batch import Probe
from cxrguard.probes.bright_ending import BrightEnding
from cxrguard.probes.cross_attention_entropy import CrossAttentionEntropy
from cxrguard.probes.denoising_loss import DenoisingLoss
from cxrguard.probes.noise_consistency import NoiseConsistency
from cxrguard.probes.pia import Pia
from cxrguard.probes.pure_noise import PureNoiseNorm
from cxrguard.probes.relative import RelativeToBase
from cxrguard.probes.score_dynamics import ScoreDynamics
from cxrguard.probes.secmi import SecMI
from cxrguard.probes.seed_convergence import SeedConvergence
from cxrguard.probes.sharpness import Sharpness
from cxrguard.probes.text_noise_norm import TextNoiseNorm

# Name of the case -> a probe of few evaluations. A class may have several cases, and must have one.
BUILDERS: dict[str, Callable[[], Probe]] = {
    "text_noise_norm": lambda: TextNoiseNorm(steps=3, seeds=2, schedule_steps=5),
    "text_noise_norm at": lambda: TextNoiseNorm(at=[0, 2], seeds=2, schedule_steps=5),
    "text_noise_norm rms": lambda: TextNoiseNorm(rms=True, seeds=2),
    "pure_noise": lambda: PureNoiseNorm(timesteps=[800, 400], seeds=2),
    "pure_noise rms": lambda: PureNoiseNorm(seeds=2, rms=True),
    "relative difference": lambda: RelativeToBase(probe=PureNoiseNorm(seeds=2)),
    "relative ratio": lambda: RelativeToBase(probe=TextNoiseNorm(seeds=2), name="ratio", mode="ratio"),
    "relative log_ratio": lambda: RelativeToBase(probe=DenoisingLoss(timesteps=[100, 700], seeds=1), mode="log_ratio"),
    "base_noise_gap": lambda: BaseNoiseGap(timesteps=[700, 300], seeds=2),
    "base_noise_gap text": lambda: BaseNoiseGap(seeds=2, difference="text"),
    "noise_consistency": lambda: NoiseConsistency(seeds=3),
    "noise_consistency ssim": lambda: NoiseConsistency(seeds=3, agreement="ssim"),
    "score_dynamics": lambda: ScoreDynamics(step=2, seeds=2, schedule_steps=5),
    "seed_convergence": lambda: SeedConvergence(steps=3, seeds=2),
    "anisotropy": lambda: Anisotropy(seeds=2),
    "sharpness": lambda: Sharpness(seeds=2),
    "cross_attention_entropy E": lambda: CrossAttentionEntropy(seeds=2),
    "cross_attention_entropy D": lambda: CrossAttentionEntropy(variant="D", seeds=2, schedule_steps=4, last_steps=2),
    "bright_ending": lambda: BrightEnding(steps=2, seeds=2, schedule_steps=3),
    "denoising_loss": lambda: DenoisingLoss(timesteps=[100, 500], seeds=2),
    "pia": lambda: Pia(timesteps=[200, 500]),
    "pia normalized": lambda: Pia(normalize=True),
    "secmi": lambda: SecMI(timestep=30),
}

# Cases that need the prompt's own image.
WITH_IMAGES = {"denoising_loss", "relative log_ratio", "pia", "pia normalized", "secmi"}
# Cases that draw no noise: another seed gives the same scores.
NOISELESS = {"pia", "pia normalized", "secmi"}
