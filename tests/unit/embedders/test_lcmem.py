"""LCMem's network, against transformers' ConvNeXt with the weights renamed as torchvision has them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import ConvNextConfig, ConvNextModel

from cxrguard.embedders.lcmem import LCMem, convnext, normalized_latents
from cxrguard.errors import ModelError

PARTS = {"dwconv": "block.0", "layernorm": "block.2", "pwconv1": "block.3", "pwconv2": "block.5"}


def torchvision_name(name: str) -> str:
    """``encoder.stages.1.layers.0.dwconv.weight`` -> ``features.3.0.block.0.weight``."""
    name = name.replace("embeddings.patch_embeddings", "features.0.0").replace("embeddings.layernorm", "features.0.1")
    name = re.sub(r"encoder\.stages\.(\d+)\.downsampling_layer\.(\d)", lambda m: f"features.{2 * int(m[1])}.{m[2]}", name)
    name = re.sub(r"encoder\.stages\.(\d+)\.layers\.(\d+)", lambda m: f"features.{2 * int(m[1]) + 1}.{m[2]}", name)
    name = name.replace("layer_scale_parameter", "layer_scale")
    name = re.sub(r"^layernorm", "classifier.0", name)
    return re.sub(r"(features\.\d+\.\d+)\.(\w+)(?=\.(weight|bias))", lambda m: f"{m[1]}.{PARTS.get(m[2], m[2])}", name)


class Reference(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        config = ConvNextConfig(num_channels=4, depths=[1, 2], hidden_sizes=[8, 12], num_stages=2, patch_size=4, layer_norm_eps=1e-6)
        self.body, self.out, self.fc_end = ConvNextModel(config), nn.Linear(12, 5), nn.Linear(5, 1)
        for p in self.parameters():
            nn.init.normal_(p, std=0.4)

    def forward(self, latents: Tensor) -> Tensor:
        return self.out(self.body(latents).pooler_output)

    def saved(self) -> dict[str, Tensor]:
        state = {torchvision_name(k): v for k, v in self.body.state_dict().items()}
        state = {k: v[:, None, None] if k.endswith("layer_scale") else v for k, v in state.items()}
        state |= {"classifier.2.weight": self.out.weight.detach(), "classifier.2.bias": self.out.bias.detach()}
        head = {f"fc_end.{k}": v for k, v in self.fc_end.state_dict().items()}
        return {f"model.{k}": v for k, v in state.items()} | head | {"vae.quant_conv.weight": torch.zeros(1)}


@pytest.fixture
def reference() -> Reference:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Reference().eval()


@pytest.fixture
def vae(tmp_path: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        AutoencoderKL(
            block_out_channels=(4, 4),
            norm_num_groups=2,
            **{
                "down_block_types": ("DownEncoderBlock2D",) * 2,
                "up_block_types": ("UpDecoderBlock2D",) * 2,
            },
        ).save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


def test_convnext_against_transformers(reference: Reference) -> None:
    latents = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    weights = {k.removeprefix("model."): v for k, v in reference.saved().items()}
    with torch.no_grad():
        torch.testing.assert_close(convnext(weights, latents), reference(latents), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("untouched_rng")
def test_vectors_and_similarity_step_by_step(reference: Reference, vae: Path, images: Tensor, tmp_path: Path) -> None:
    torch.save({"state_dict": {f"module.{k}": v for k, v in reference.saved().items()}}, tmp_path / "best_network.pth")
    embedder = LCMem(str(tmp_path / "best_network.pth"), str(vae), size=64, batch_size=2)
    found = embedder(images)
    pixels = interpolate((images + 1) / 2, (64, 64), mode="bilinear", antialias=True).expand(-1, 3, -1, -1)
    with torch.no_grad():
        latents = AutoencoderKL.from_pretrained(vae).encode(pixels).latent_dist.mean
        want = reference(normalized_latents(latents)).sigmoid()
        pairs = [[reference.fc_end((a - b).abs()).sigmoid().item() for b in want] for a in want]
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(embedder.similarity(found, found), torch.tensor(pairs), rtol=1e-4, atol=1e-5)


def test_each_channel_is_normalized_by_itself() -> None:
    latents = normalized_latents(torch.randn(2, 3, 9, 9) * torch.tensor([1.0, 5.0, 0.0]).reshape(1, 3, 1, 1) + 4)
    torch.testing.assert_close(latents.std(dim=(2, 3)), torch.tensor([[0.5, 0.5, 0.0]] * 2), atol=1e-4, rtol=0)


def test_refused(reference: Reference, vae: Path, tmp_path: Path) -> None:
    state = reference.saved()
    for missing in ("fc_end.bias", "model.features.1.0.block.0.weight"):
        torch.save({k: v for k, v in state.items() if k != missing}, tmp_path / "part.pth")
        with pytest.raises(ModelError, match="not the state dict of LCMem's ConvNeXt"):
            LCMem(str(tmp_path / "part.pth"), str(vae))
    torch.save(state, tmp_path / "whole.pth")
    with pytest.raises(ModelError, match=r"as AutoencoderKL.*publish no weights"):
        LCMem(str(tmp_path / "whole.pth"), str(tmp_path))
