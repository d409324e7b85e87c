"""LCMem: re-identification and copy detection in a VAE's latent space, computed from its weights alone."""

from __future__ import annotations

from itertools import count
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cxrguard.embedders.base import FrozenEmbedder, resized
from cxrguard.embedders.weights import load_state, model_directory
from cxrguard.errors import ModelError

_REMEDY = (
    "github.com/MischaD/LCMem trains such a network (*_best_network.pth, a ConvNeXt); its authors publish no weights. "
    "Set embedder.path to that file and embedder.vae to the diffusers directory of the VAE that it was trained with."
)
FINAL_STD = 0.5


class LCMem(FrozenEmbedder):
    """The branch of a Siamese ConvNeXt on VAE latents (Dombrowski et al. 2025, arXiv 2512.14421).

    As its code does: the image in [0, 1], three channels, 512 pixels → VAE → each channel of each sample to mean 0 and deviation 0.5 →
    ConvNeXt → sigmoid. Two images are compared by σ(w · |a − b| + c), the network's own head: higher means the same image or patient.
    Instead of a draw from the VAE's posterior its mean is taken, so that equal images give equal vectors.

    Args:
        path: the network's state dict.
        vae: diffusers directory (or hub name) of the AutoencoderKL.
        subfolder: where in ``vae`` it lies, e.g. ``vae`` in a pipeline directory.
        size: pixels a side.
        batch_size: images at once.
        device: where the networks run.

    Raises:
        ModelError: a file is missing, is pickled code, or is not of such a network.

    """

    name = "lcmem"

    def __init__(
        self, path: str, vae: str, *, subfolder: str | None = None, size: int = 512, batch_size: int = 4, device: str = "cpu"
    ) -> None:
        super().__init__(batch_size=batch_size, device=device)
        state = {k: v.float().to(self.device) for k, v in load_state(path, self.name, _REMEDY).items()}
        self.weights = {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
        self.size = size
        self.vae = _load_vae(vae, subfolder).to(self.device)
        try:
            self.head = state["fc_end.weight"].cpu(), state["fc_end.bias"].cpu()
            embedded = convnext(self.weights, torch.zeros(1, self.vae.config.latent_channels, 64, 64, device=self.device)).cpu()
            self.similarity(embedded, embedded)
        except (KeyError, RuntimeError) as error:
            raise ModelError(f"{path}: is not the state dict of LCMem's ConvNeXt for this VAE ({error}). {_REMEDY}") from None

    def _embed(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n d"]:
        pixels = ((resized(images, self.size) + 1) / 2).expand(-1, 3, -1, -1)
        latents = self.vae.encode(pixels).latent_dist.mode()
        return torch.sigmoid(convnext(self.weights, normalized_latents(latents)))

    def similarity(self, a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """σ(w · |a_i − b_j| + c). Range (0, 1); higher means more alike."""
        weight, bias = self.head
        return torch.stack([torch.sigmoid(F.linear((row - b).abs(), weight, bias)[:, 0]) for row in a])


def normalized_latents(latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Each channel of each sample to mean 0 and standard deviation 0.5."""
    std, mean = torch.std_mean(latents, dim=(2, 3), keepdim=True)
    return (latents - mean) / std.clamp_min(1e-8) * FINAL_STD


def convnext(weights: dict[str, Tensor], x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
    """ConvNeXt (Liu et al., CVPR 2022) by torchvision's names: features 0 the stem, odd ones the stages, even ones between them."""
    stem = weights["features.0.0.weight"]
    x = _channel_norm(weights, "features.0.1", F.conv2d(x, stem, weights["features.0.0.bias"], stride=stem.shape[-1]))
    for stage in count(1, 2):
        x = _stage(weights, f"features.{stage}", x)
        between = f"features.{stage + 1}"
        if f"{between}.1.weight" not in weights:
            break
        x = F.conv2d(_channel_norm(weights, f"{between}.0", x), weights[f"{between}.1.weight"], weights[f"{between}.1.bias"], stride=2)
    pooled = _norm(weights, "classifier.0", x.mean(dim=(2, 3)))
    return F.linear(pooled, weights["classifier.2.weight"], weights["classifier.2.bias"])


def _stage(weights: dict[str, Tensor], stage: str, x: Tensor) -> Tensor:
    for number in count():
        block = f"{stage}.{number}"
        if f"{block}.layer_scale" not in weights:
            break
        kernel = weights[f"{block}.block.0.weight"]
        new = F.conv2d(x, kernel, weights[f"{block}.block.0.bias"], padding=kernel.shape[-1] // 2, groups=len(kernel))
        new = _norm(weights, f"{block}.block.2", new.permute(0, 2, 3, 1))
        new = F.gelu(F.linear(new, weights[f"{block}.block.3.weight"], weights[f"{block}.block.3.bias"]))
        new = F.linear(new, weights[f"{block}.block.5.weight"], weights[f"{block}.block.5.bias"])
        x = x + weights[f"{block}.layer_scale"] * new.permute(0, 3, 1, 2)
    return x


def _norm(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    weight = weights[f"{name}.weight"]
    return F.layer_norm(x, weight.shape, weight, weights[f"{name}.bias"], eps=1e-6)


def _channel_norm(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return _norm(weights, name, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _load_vae(source: str, subfolder: str | None) -> Any:
    """The VAE, frozen, from safetensors alone."""
    from diffusers import AutoencoderKL

    directory = model_directory(source, "lcmem", _REMEDY)
    try:
        with torch.random.fork_rng(devices=[]):
            vae = AutoencoderKL.from_pretrained(directory, subfolder=subfolder, use_safetensors=True, local_files_only=True)
    except Exception as error:  # the libraries raise their own
        raise ModelError(f"{directory}: cannot be loaded as AutoencoderKL from safetensors ({type(error).__name__}). {_REMEDY}") from None
    return vae.float().eval().requires_grad_(False)
