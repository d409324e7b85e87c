"""Recipe, part 1, of the shipped base model: a tiny ``AutoencoderKL`` trained on phantoms only.

Run by ``make base-model``. The phantoms are augmented hard (zoom, contrast, inversion, texture), so that the
autoencoder also carries images that it never saw; its error on phantoms and on real X-rays is measured by
``python -m cxrguard.diffusion.base_vae --evaluate`` and stated in the README.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from cxrguard.data.phantom import PhantomReader, smooth_field

CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (24, 48, 64, 96),
    "layers_per_block": 1,
    "latent_channels": 8,
    "norm_num_groups": 8,
    "sample_size": 64,
    "mid_block_add_attention": False,
}


def phantom_pool(n_patients: int, seed: int) -> Tensor:
    """Phantom images as float ``[N, 1, 64, 64]`` in [-1, 1]."""
    records, _ = PhantomReader(n_patients=n_patients, seed=seed).read()
    return torch.from_numpy(np.stack([r.pixels for r in records if r.pixels is not None])).float()[:, None] / 127.5 - 1


def texture_pool(n: int, seed: int) -> Tensor:
    """Smooth random fields ``[n, 1, 64, 64]`` of several scales, to widen what the autoencoder has seen."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([smooth_field(rng, 64, int(rng.choice([3, 6, 12, 24, 40]))) for _ in range(n)])).float()[:, None]


def augment(images: Tensor, textures: Tensor, generator: torch.Generator) -> Tensor:
    """Zoom, shift, change contrast and mix in texture; ``[B, 1, 64, 64]`` in and out, clipped to [-1, 1]."""
    n = images.shape[0]

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    zoom, angle, zeros = uniform(0.55, 1.15), uniform(-0.5, 0.5), torch.zeros(n)
    theta = torch.stack(
        [
            torch.stack([zoom * angle.cos(), -zoom * angle.sin(), uniform(-0.25, 0.25)], 1),
            torch.stack([zoom * angle.sin(), zoom * angle.cos(), uniform(-0.25, 0.25)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    out = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    pick = textures[torch.randint(len(textures), (n,), generator=generator)]
    strength = uniform(0.0, 0.35) * (torch.rand(n, generator=generator) < 0.6)
    out = out * uniform(0.5, 1.2)[:, None, None, None] + uniform(-0.35, 0.35)[:, None, None, None]
    return (out + strength[:, None, None, None] * pick + zeros[:, None, None, None]).clamp(-1, 1)


def reconstruction_loss(out: Tensor, target: Tensor) -> Tensor:
    """L1 + 2 × mean squared error + L1 of the image gradients (keeps edges)."""
    dx, dy = (out - target).diff(dim=-1).abs().mean(), (out - target).diff(dim=-2).abs().mean()
    return F.l1_loss(out, target) + 2 * F.mse_loss(out, target) + dx + dy


def train(out_dir: Path, minutes: float, seed: int) -> AutoencoderKL:
    """Train for ``minutes`` with a learning rate that falls to zero, then save fp16 safetensors."""
    torch.manual_seed(seed)
    vae = AutoencoderKL(**CONFIG).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-3, weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    pool, textures = phantom_pool(4000, seed=1), texture_pool(2000, seed=1)
    start, step, share = time.time(), 0, 0.0
    while share < 1:
        share = (time.time() - start) / (minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 100) * max(1 - share, 0.01)
        pick = pool[torch.randint(len(pool), (16,), generator=generator)]
        image = augment(pick, textures, generator)
        image[:4] = pick[:4]
        image = image.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(image).latent_dist
            decoded = vae.decode(posterior.sample(generator)).sample
        loss = reconstruction_loss(decoded.float(), image) + 1e-6 * posterior.kl().float().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if step % 200 == 0:
            print(f"vae step {step} loss {loss.item():.4f} {share:.0%}", flush=True)
        step += 1
    _set_scaling(vae, pool)
    vae.eval().half().save_pretrained(out_dir, safe_serialization=True)
    return vae.float()


@torch.no_grad()
def _set_scaling(vae: AutoencoderKL, pool: Tensor) -> None:
    latents = vae.encode(pool[:512].expand(-1, 3, -1, -1)).latent_dist.mode()
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))


@torch.no_grad()
def psnr(vae: AutoencoderKL, images: Tensor) -> dict[str, float]:
    """Mean peak signal-to-noise ratio in dB (peak 2, images in [-1, 1]) of decode(encode(x)), with n."""
    out = vae.decode(vae.encode(images.expand(-1, 3, -1, -1)).latent_dist.mode()).sample.clamp(-1, 1).mean(1, keepdim=True)
    mse = (out - images).square().mean(dim=(1, 2, 3))
    return {"n": len(images), "psnr_db": round(float((10 * torch.log10(4 / mse)).mean()), 2), "mse": round(float(mse.mean()), 5)}


def real_images(root: Path, n: int) -> Tensor:
    """The first ``n`` PNGs of ``root``/images, 64 px, as ``[n, 1, 64, 64]`` in [-1, 1]."""
    from PIL import Image

    paths = sorted((root / "images").glob("*.png"))[:n]
    films = [np.asarray(Image.open(p).convert("L").resize((64, 64), Image.Resampling.BOX)) for p in paths]
    return torch.from_numpy(np.stack(films)).float()[:, None] / 127.5 - 1


def main() -> None:
    """Train, or evaluate a saved autoencoder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/base_model/vae"))
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate", action="store_true", help="only measure the reconstruction of --out")
    parser.add_argument("--real", type=Path, help="an NIH ChestX-ray14 directory to measure real X-rays on")
    args = parser.parse_args()
    vae = AutoencoderKL.from_pretrained(args.out, torch_dtype=torch.float32) if args.evaluate else train(args.out, args.minutes, args.seed)
    result = {"phantoms": psnr(vae, phantom_pool(250, seed=999)[:400])}
    if args.real:
        result["real X-rays"] = psnr(vae, real_images(args.real, 400))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
