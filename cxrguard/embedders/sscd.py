"""SSCD, the descriptor that papers on replication use, from its TorchScript file."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.embedders.base import FrozenEmbedder, resized, standardized
from cxrguard.embedders.weights import local_file
from cxrguard.errors import ModelError

_REMEDY = (
    "Download a .torchscript.pt file of github.com/facebookresearch/sscd-copy-detection (e.g. sscd_disc_mixup.torchscript.pt) "
    "and set embedder.path to it."
)
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class SSCD(FrozenEmbedder):
    """Self-supervised copy detection descriptor (Pizzi et al., CVPR 2022).

    Preprocessed as its authors do: 288 pixels, ImageNet's mean and standard deviation.

    TorchScript is no Python and is only read from a file that the user names, never fetched; but it is a program, so give ``sha256``
    for a file that others could have changed.

    Args:
        path: the TorchScript file.
        size: pixels a side.
        sha256: what the file must hash to.
        batch_size: images at once.
        device: where the network runs.

    Raises:
        ModelError: no such file, another hash, no TorchScript, or its output is not ``[N, D]``.

    """

    name = "sscd"

    def __init__(self, path: str, *, size: int = 288, sha256: str | None = None, batch_size: int = 16, device: str = "cpu") -> None:
        super().__init__(batch_size=batch_size, device=device)
        self.path, self.size = local_file(path, self.name, _REMEDY), size
        if sha256 is not None:
            _check_hash(self.path, sha256)
        self.model = _load(self.path, self.device)

    def _embed(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n d"]:
        embedded = self.model(standardized(resized(images, self.size), IMAGENET_MEAN, IMAGENET_STD))
        if not isinstance(embedded, Tensor) or embedded.ndim != 2:
            raise ModelError(f"{self.path}: does not give one vector an image. {_REMEDY}")
        return embedded


def _check_hash(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected.lower():
        raise ModelError(f"{path}: has SHA-256 {found}, not the {expected} that embedder.sha256 asks for. {_REMEDY}")


def _load(path: Path, device: torch.device) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is what the authors published
            return torch.jit.load(str(path), map_location=device).eval()
    except Exception as error:
        raise ModelError(f"{path}: cannot be loaded as TorchScript ({type(error).__name__}). {_REMEDY}") from None
