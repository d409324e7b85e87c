"""Does what the guard's policy says after each probe round, and says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from callbacks.checkpoint import AtomicCheckpointIO
from callbacks.probe import ProbeCallback
from cxrguard.diffusion.module import DiffusionModule
from cxrguard.errors import CxrguardError
from cxrguard.guard.policy import Decision, Policy, Rule

PASSED = "passed.pt"  # not *.ckpt: nobody goes on from it


class GuardCallback(pl.Callback):
    """Acts on the rounds of the run's :class:`~callbacks.probe.ProbeCallback`, which must stand before it.

    The first process has the figures and decides; all take the same action. A learning rate that was lowered stays so: the schedule's
    own changes go on from there.

    Args:
        policy: rules by name.
        dirpath: where the weights of the last round without an active rule are kept, for ``roll_back``.

    """

    def __init__(self, policy: Mapping[str, Rule | None], dirpath: str | Path) -> None:
        self.policy, self.passed = Policy(policy), Path(dirpath) / PASSED
        self.actions: list[dict[str, Any]] = []
        self._seen = -1

    @property
    def _rolls_back(self) -> bool:
        return any(rule.action == "roll_back" for rule in self.policy.rules.values())

    def state_dict(self) -> dict[str, Any]:
        """The rules' memory and what was done survive a resume."""
        return {"policy": self.policy.state_dict(), "actions": self.actions, "seen": self._seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.policy.load_state_dict(state_dict["policy"])
        self.actions, self._seen = state_dict["actions"], state_dict["seen"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The base model's round counts too."""
        self._look(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look at a round that is new."""
        self._look(trainer, pl_module)

    def _look(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        row = self._new_round(trainer)
        if row is None or not isinstance(pl_module, DiffusionModule):
            return
        self._seen = row["step"]
        ours = self._decide(row) if trainer.is_global_zero else ([], True)
        decided, quiet = trainer.strategy.broadcast(ours)
        if quiet and self._rolls_back:
            self._keep(trainer, pl_module)
        for decision in decided:
            self._write_down(trainer, decision.entry(trainer.global_step) | self._act(trainer, pl_module, decision))

    def _decide(self, row: dict[str, Any]) -> tuple[list[Decision], bool]:
        decided = self.policy.decide(row)
        return decided, self.policy.quiet

    def _new_round(self, trainer: pl.Trainer) -> dict[str, Any] | None:
        probe = next((c for c in trainer.callbacks if isinstance(c, ProbeCallback)), None)  # type: ignore[attr-defined]
        if not self.policy.rules or probe is None or not probe.curves or probe.curves[-1]["step"] == self._seen:
            return None
        return probe.curves[-1]

    def _keep(self, trainer: pl.Trainer, module: DiffusionModule) -> None:
        if trainer.is_global_zero:
            checkpoint: dict[str, Any] = {"state_dict": module.state_dict(), "step": trainer.global_step}
            module.on_save_checkpoint(checkpoint)
            AtomicCheckpointIO().save_checkpoint(checkpoint, self.passed)
        trainer.strategy.barrier("guard")

    def _act(self, trainer: pl.Trainer, module: DiffusionModule, decision: Decision) -> dict[str, Any]:
        """Do it; returns what else is to be said of it."""
        if decision.action == "lower_rate":
            _lower_rate(trainer, decision.factor)
        if decision.action in ("roll_back", "stop"):
            trainer.should_stop = True
        return {"to_step": self._roll_back(module)} if decision.action == "roll_back" else {}

    def _roll_back(self, module: DiffusionModule) -> int:
        if not self.passed.exists():
            raise CxrguardError(
                "the guard cannot roll back: a rule was active from the first round on; see the audit stream in metrics.csv"
            )
        checkpoint = torch.load(self.passed, weights_only=True, map_location=module.device)
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"], strict=False)
        return int(checkpoint["step"])

    def _write_down(self, trainer: pl.Trainer, entry: dict[str, Any]) -> None:
        self.actions.append(entry)
        if trainer.is_global_zero:
            print(f"guard: {entry['action']} at step {entry['step']}: {entry['signal']} is {entry['figure']:g}", flush=True)
        for logger in trainer.loggers:
            logger.log_metrics({f"guard/{entry['action']}": 1.0}, step=trainer.global_step)


def _lower_rate(trainer: pl.Trainer, factor: float) -> None:
    """From now on; a schedule multiplies its initial rate, so that is what changes."""
    for config in trainer.lr_scheduler_configs:
        config.scheduler.base_lrs = [rate * factor for rate in config.scheduler.base_lrs]  # type: ignore[union-attr]
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group["lr"] *= factor
