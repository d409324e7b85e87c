"""Trains with differential privacy where ``guard.dp`` asks for it; the formulas are in :mod:`cxrguard.diffusion.private`."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from cxrguard.diffusion.module import DiffusionModule
from cxrguard.diffusion.private import PrivacySettings, PrivateTraining
from cxrguard.errors import CxrguardError


class PrivacyCallback(pl.Callback):
    """Makes the module's steps private and keeps the account through a resume.

    Args:
        settings: None trains as ever.

    """

    def __init__(self, settings: PrivacySettings | None = None) -> None:
        self.settings = settings
        self.training: PrivateTraining | None = None

    def attach(self, n_showings: int, batch_size: int, secret: int) -> None:
        """Once the data are known; see :class:`~cxrguard.diffusion.private.PrivateTraining`."""
        if self.settings is not None:
            self.training = PrivateTraining(self.settings, n_showings, batch_size, secret)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """From now on the module's steps are private."""
        if self.training is not None and isinstance(pl_module, DiffusionModule):
            pl_module.private = self.training
            self.training.attach(pl_module.unet)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to go on from steps that were not counted.

        Raises:
            CxrguardError: the checkpoint's steps are not those of the account.

        """
        if self.training is not None and self.training.steps != trainer.global_step:
            raise CxrguardError(
                f"{trainer.global_step} steps were done, but {self.training.steps} of them privately: guard=dp cannot go on from a "
                "checkpoint of a run without it"
            )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """What is judged and exported is a plain model."""
        if self.training is not None:
            self.training.detach()

    def summary(self) -> dict[str, Any] | None:
        """ε and what it rests on; None where nothing is private."""
        return None if self.training is None else self.training.summary()

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`~cxrguard.diffusion.private.PrivateTraining.state_dict`."""
        return {} if self.training is None else self.training.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        if self.training is not None and state_dict:
            self.training.load_state_dict(state_dict)
