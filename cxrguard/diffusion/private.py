"""DP-SGD on LoRA weights through Opacus: per-sample gradients clipped, noise added, the spent ε counted (Abadi et al., CCS 2016).

What ε says: whoever sees the weights of every step can tell by at most a factor e^ε (but for a probability δ) whether one *showing* of
one sample was among those trained on. A sample that is shown r times an epoch, or has r near copies, is a group of r: its ε is r times as
large, and its δ grows. The noise comes from torch's generator, which is no cryptographic one (Opacus's secure mode is not used).

ε holds for the weights, given the base model; the audit's own figures (which looked at canaries and members) are not covered.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cxrguard.errors import CxrguardError
from cxrguard.randomness import derive_seed

UNIT = "one showing of one sample: shown r times an epoch, or with r near copies, it is protected r times less"


@dataclass(frozen=True)
class PrivacySettings:
    """How private.

    Attributes:
        noise_multiplier: standard deviation of the noise, in units of ``max_grad_norm``.
        max_grad_norm: each sample's gradient is scaled to at most this l2 norm, over all trained weights together.
        delta: probability with which ε may fail; below 1 / number of showings.

    Raises:
        CxrguardError: a number is out of range.

    """

    noise_multiplier: float = 1.0
    max_grad_norm: float = 1.0
    delta: float = 1e-5

    def __post_init__(self) -> None:
        if self.noise_multiplier <= 0 or self.max_grad_norm <= 0 or not 0 < self.delta < 1:
            raise CxrguardError(
                f"guard.dp needs noise_multiplier and max_grad_norm above 0 and delta between 0 and 1, not {self.noise_multiplier:g}, "
                f"{self.max_grad_norm:g} and {self.delta:g}"
            )


class PrivateTraining:
    """Clips, adds noise and counts, while a run trains.

    Args:
        settings: see there.
        n_showings: of all samples an epoch; each step draws each of them with probability ``batch_size / n_showings`` (Poisson).
        batch_size: samples a step in the mean.
        secret: seeds the noise. Whoever knows it can take the noise away again, so it must not be the run's seed.

    Raises:
        CxrguardError: Opacus is not installed, or δ is too large to mean anything.

    """

    def __init__(self, settings: PrivacySettings, n_showings: int, batch_size: int, secret: int) -> None:
        try:
            from opacus.accountants import RDPAccountant
        except ImportError:
            raise CxrguardError("guard=dp needs opacus; pip install 'cxrguard[dp]'") from None
        if settings.delta >= 1 / n_showings:
            raise CxrguardError(f"guard.dp.delta={settings.delta:g} must be below 1 / {n_showings}, one over the showings an epoch")
        self.settings, self.batch_size, self.secret = settings, batch_size, secret
        self.sample_rate = batch_size / n_showings
        self.accountant: Any = RDPAccountant()
        self._hooks: Any = None
        self._generator = torch.Generator()

    def attach(self, model: nn.Module) -> None:
        """From now on a backward pass of a mean over per-sample losses leaves per-sample gradients at the trained weights."""
        from opacus.grad_sample.grad_sample_module import GradSampleHooks

        if self._hooks is None:
            self._hooks = GradSampleHooks(model, loss_reduction="mean")
            self._hooks.disable_hooks()  # but in a step: a detector may take gradients too

    def detach(self) -> None:
        """The model is as any other again."""
        if self._hooks is not None:
            self._hooks.cleanup()
            self._hooks = None

    def optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimizer, on clipped gradients with noise, divided by the mean batch size; each step is counted."""
        from opacus.optimizers import DPOptimizer

        device = optimizer.param_groups[0]["params"][0].device
        self._generator = torch.Generator(device)
        private: torch.optim.Optimizer = DPOptimizer(
            optimizer,
            noise_multiplier=self.settings.noise_multiplier,
            max_grad_norm=self.settings.max_grad_norm,
            expected_batch_size=self.batch_size,
            generator=self._generator,
        )
        private.attach_step_hook(self.accountant.get_optimizer_hook_fn(self.sample_rate))
        return private

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Around forward pass, backward pass and update. The noise is a function of (secret, number): a resumed run adds the same."""
        self._generator.manual_seed(derive_seed("dp-noise", self.secret, number))
        self._hooks.enable_hooks()
        yield
        self._hooks.disable_hooks()

    @property
    def steps(self) -> int:
        """Steps that were counted."""
        return sum(int(steps) for *_, steps in self.accountant.history)

    def summary(self) -> dict[str, Any]:
        """``privacy`` of the audit."""
        return {
            "epsilon": float(self.accountant.get_epsilon(self.settings.delta)),
            "delta": self.settings.delta,
            "noise_multiplier": self.settings.noise_multiplier,
            "max_grad_norm": self.settings.max_grad_norm,
            "sample_rate": self.sample_rate,
            "steps": self.steps,
            "accountant": "rdp",
            "unit": UNIT,
        }

    def state_dict(self) -> dict[str, Any]:
        """What was spent survives a resume."""
        return {"history": [list(entry) for entry in self.accountant.history]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.accountant.history = [(float(noise), float(rate), int(steps)) for noise, rate, steps in state["history"]]
