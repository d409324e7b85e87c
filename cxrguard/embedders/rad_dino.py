"""RAD-DINO, or any DINOv2 encoder of chest X-rays in Hugging Face's format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.embedders.base import FrozenEmbedder, resized, standardized
from cxrguard.embedders.weights import model_directory, read_config
from cxrguard.errors import ModelError

_REMEDY = (
    "Download microsoft/rad-dino (config.json, preprocessor_config.json, model.safetensors) and set embedder.source to its directory, "
    "or give the hub name where the machine is online."
)
_RESAMPLE = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


class RadDino(FrozenEmbedder):
    """The normalized class token of a DINOv2 encoder (Pérez-García et al., Nature Machine Intelligence 2025).

    Size, mean and standard deviation come from the directory's own ``preprocessor_config.json``. The whole image is resized, as this
    project's readers do; nothing is cropped.

    Args:
        source: a directory or a hub name.
        batch_size: images at once.
        device: where the network runs.

    Raises:
        ModelError: the directory is missing, is no DINOv2, lacks its preprocessing, or has not all weights as safetensors.

    """

    name = "rad_dino"

    def __init__(self, source: str, *, batch_size: int = 8, device: str = "cpu") -> None:
        super().__init__(batch_size=batch_size, device=device)
        directory = model_directory(source, self.name, _REMEDY)
        self.size, self.mean, self.std, self.mode = _preprocessing(directory)
        self.model = _load(directory).to(self.device)

    def _embed(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n d"]:
        pixels = standardized(resized(images, self.size, self.mode), self.mean, self.std)
        embedded: Tensor = self.model(pixel_values=pixels).pooler_output
        return embedded


def _preprocessing(directory: Path) -> tuple[int, list[float], list[float], str]:
    config = read_config(directory, "preprocessor_config.json", _REMEDY)
    size = config.get("crop_size") or config.get("size") or {}
    size = size.get("height") or size.get("shortest_edge") if isinstance(size, dict) else size
    mean, std, mode = config.get("image_mean"), config.get("image_std"), _RESAMPLE.get(config.get("resample", 3))
    if isinstance(size, int) and mode and isinstance(mean, list) and isinstance(std, list) and len(mean) == len(std) == 3:
        return size, mean, std, mode
    raise ModelError(f"{directory / 'preprocessor_config.json'}: gives no size, image_mean, image_std or known resample. {_REMEDY}")


def _load(directory: Path) -> Any:
    """The encoder, frozen; a plain transformers class, so that code in the directory is never looked at."""
    kind = read_config(directory, "config.json", _REMEDY).get("model_type")
    if kind != "dinov2":
        raise ModelError(f"{directory}: holds a model of type {kind!r}, not dinov2. {_REMEDY}")
    from transformers import Dinov2Model

    try:
        with torch.random.fork_rng(devices=[]):
            model, info = Dinov2Model.from_pretrained(directory, local_files_only=True, use_safetensors=True, output_loading_info=True)
    except Exception as error:  # the libraries raise their own
        raise ModelError(f"{directory}: cannot be loaded as Dinov2Model from safetensors ({type(error).__name__}). {_REMEDY}") from None
    absent = sorted(set(info["missing_keys"]) | {str(m) for m in info.get("mismatched_keys", ())})
    if absent:
        raise ModelError(f"{directory}: lacks {len(absent)} of the encoder's weights ({absent[0]}, ...). {_REMEDY}")
    return model.float().eval().requires_grad_(False)
