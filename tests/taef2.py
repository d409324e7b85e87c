"""TAEF2, the tiny VAE of FLUX.2's latents (madebyollin/taesd, MIT), whose real weights lie in ``../shared/models``.

diffusers 0.42 has no class for it: its middle blocks have a normalising branch that AutoencoderTiny lacks, and without
which the decoder gives noise. This one adds it. Nothing of the package depends on this file.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from tests.conftest import SHARED

WEIGHTS = SHARED / "models" / "taef2"


class _Normed(nn.Module):
    """A block of AutoencoderTiny after a branch that sees the whole image."""

    def __init__(self, block: nn.Module, width: int = 64) -> None:
        super().__init__()
        self.conv, self.skip, self.fuse = block.conv, block.skip, block.fuse
        self.pool = nn.Sequential(
            nn.Conv2d(width, 4 * width, 1, bias=False), nn.GroupNorm(4, 4 * width), nn.ReLU(), nn.Conv2d(4 * width, width, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pool(x)
        return self.fuse(self.conv(x) + self.skip(x))


def states() -> dict[str, dict[str, Tensor]]:
    """The weights as AutoencoderTiny numbers them; the decoder's file counts the clamp, which is no layer here."""
    out = {}
    for side, shift in (("encoder", 0), ("decoder", 1)):
        raw = torch.load(WEIGHTS / f"taef2_{side}.pth", weights_only=True)
        out[side] = {f"{int(name.split('.')[0]) - shift}.{name.partition('.')[2]}": value.float() for name, value in raw.items()}
    return out


class Taef2(AutoencoderTiny):
    """The model with its real weights."""

    def __init__(self) -> None:
        super().__init__(latent_channels=32)
        for side, values in states().items():
            layers = getattr(self, side).layers
            for place in sorted({int(name.split(".")[0]) for name in values if ".pool." in name}):
                layers[place] = _Normed(layers[place])
            layers.load_state_dict(values)
