"""Pictures in W&B: generated images only, never one of the data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pytorch_lightning.loggers import Logger, WandbLogger


def log_images(loggers: Sequence[Logger | Any], name: str, generated: np.ndarray, step: int) -> None:
    """Log one picture of generated images, uint8 ``[H, W]``, to every W&B logger."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            from PIL import Image

            logger.log_image(name, [Image.fromarray(generated)], step=step)
