"""TorchXRayVision's DenseNet, computed from its weights alone."""

from __future__ import annotations

from itertools import count

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cxrguard.embedders.base import FrozenEmbedder, resized
from cxrguard.embedders.weights import load_state
from cxrguard.errors import ModelError

SIZE = 224
_REMEDY = (
    "TorchXRayVision publishes pickled models; save the weights once where you trust them: "
    "m = torchxrayvision.models.DenseNet(weights='densenet121-res224-all'); "
    "safetensors.torch.save_file({k: v for k, v in m.state_dict().items() if v.ndim}, 'densenet.safetensors'), "
    "and set embedder.path to that file."
)


class TorchXRayVision(FrozenEmbedder):
    """Pooled features of a DenseNet (Huang et al., CVPR 2017) trained on chest X-rays (Cohen et al., MIDL 2022): 1024 of ``features2``.

    The package itself is not needed: it unpickles what it downloads, and it needs torchvision. Grey images in [−1024, 1024], 224 × 224.
    It was trained to name findings, not to find copies: expect two patients with one finding to look alike.

    Args:
        path: a state dict of ``torchxrayvision.models.DenseNet``, safetensors or a torch file of tensors only.
        batch_size: images at once.
        device: where the network runs.

    Raises:
        ModelError: no such file, it is pickled, or it is not of a DenseNet.

    """

    name = "torchxrayvision"

    def __init__(self, path: str, *, batch_size: int = 32, device: str = "cpu") -> None:
        super().__init__(batch_size=batch_size, device=device)
        state = load_state(path, self.name, _REMEDY)
        self.weights = {k.removeprefix("features."): v.float().to(self.device) for k, v in state.items() if k.startswith("features.")}
        try:
            densenet_features(self.weights, torch.zeros(1, 1, 64, 64, device=self.device))
        except (KeyError, RuntimeError) as error:
            raise ModelError(f"{path}: is not the state dict of a DenseNet for one grey channel ({error}). {_REMEDY}") from None

    def _embed(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n d"]:
        return densenet_features(self.weights, resized(images, SIZE) * 1024)


def densenet_features(weights: dict[str, Tensor], images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n d"]:
    """Pooled features by torchvision's names of the parts: conv0, norm0, denseblockB.denselayerL.*, transitionB.*, norm5."""
    x = F.max_pool2d(_norm_relu(weights, "norm0", F.conv2d(images, weights["conv0.weight"], stride=2, padding=3)), 3, 2, 1)
    for block in count(1):
        x = _dense_block(weights, f"denseblock{block}", x)
        transition = f"transition{block}"
        if f"{transition}.conv.weight" not in weights:
            break
        x = F.avg_pool2d(F.conv2d(_norm_relu(weights, f"{transition}.norm", x), weights[f"{transition}.conv.weight"]), 2)
    return _norm_relu(weights, "norm5", x).mean(dim=(2, 3))


def _dense_block(weights: dict[str, Tensor], block: str, x: Tensor) -> Tensor:
    """Each layer sees all maps before it and adds its own (Huang et al., eq. 2)."""
    for number in count(1):
        layer = f"{block}.denselayer{number}"
        if f"{layer}.conv1.weight" not in weights:
            break
        new = F.conv2d(_norm_relu(weights, f"{layer}.norm1", x), weights[f"{layer}.conv1.weight"])
        new = F.conv2d(_norm_relu(weights, f"{layer}.norm2", new), weights[f"{layer}.conv2.weight"], padding=1)
        x = torch.cat([x, new], dim=1)
    return x


def _norm_relu(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, var, weight, bias = (weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.relu(F.batch_norm(x, mean, var, weight, bias))
