"""What training costs on this GPU: an SD-1.5-size model with random weights at 512 px, bf16-mixed, compiled, cached.

Prints one Markdown table with the device's name: samples a second, MFU, peak memory, and what a round of probes takes of the training
between two. Without a GPU it says so and ends with status 0; ``--tiny`` runs the same code on a CPU, for a test of it.

python benchmarks/gpu_check.py [--batch 16] [--steps 50] [--peak-tflops 989]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from callbacks.runtime import quiet_libraries
from cxrguard.diffusion.loading import PipelineParts
from cxrguard.diffusion.module import DiffusionModule
from cxrguard.diffusion.sampling import Sampler
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.denoising_loss import DenoisingLoss
from cxrguard.probes.text_noise_norm import TextNoiseNorm

# Dense bf16 peaks of the makers' data sheets, in TFLOP/s.
PEAKS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40S": 362.0, "4090": 165.0}
EVERY = 500  # steps between two rounds of probes, as in conf/config.yaml


class Tokenizer:
    """As much of a tokenizer as the module asks for: random weights read no words."""

    model_max_length = 77

    def __call__(self, prompts: list[str], **_: Any) -> Any:
        class Ids:
            input_ids = torch.zeros(len(prompts), 77, dtype=torch.int64)

        return Ids()


def build(tiny: bool) -> PipelineParts:
    """Stable Diffusion 1.5's configuration, or one of the same classes that a CPU takes."""
    sizes: dict[str, Any] = {"block_out_channels": (32, 64, 64, 64), "norm_num_groups": 8, "attention_head_dim": 4} if tiny else {}
    width = 32 if tiny else 768
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=width, **sizes)
    layers = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    channels = (8, 8, 8, 8) if tiny else (128, 256, 512, 512)
    vae = AutoencoderKL(
        down_block_types=layers[0],
        up_block_types=layers[1],
        block_out_channels=channels,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=8 if tiny else 32,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=2 if tiny else 12,
            num_attention_heads=4 if tiny else 12,
            max_position_embeddings=77,
        )
    )
    schedule = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    return PipelineParts(unet, vae, text, Tokenizer(), schedule)


def batch_of(n: int, side: int, width: int, device: str) -> dict[str, torch.Tensor]:
    ids = torch.arange(n)
    made = {"latents": torch.randn(n, 4, side, side), "encoder_hidden_states": torch.randn(n, 77, width)}
    return {name: x.to(device) for name, x in made.items()} | {"sample_ids": ids, "draws": torch.zeros(n, dtype=torch.int64)}


def seconds(work: Callable[[], Any], device: str, n: int) -> float:
    """Seconds a call, after two that warm up."""
    for _ in range(2):
        work()
    _wait(device)
    start = time.perf_counter()
    for _ in range(n):
        work()
    _wait(device)
    return (time.perf_counter() - start) / n


def _precision(device: str) -> Any:
    """bf16-mixed; a CPU without the instructions would take minutes a step."""
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="dense bf16 peak of the device, where it is not known")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    if not torch.cuda.is_available() and not args.tiny:
        print("gpu-check: torch finds no GPU here, so nothing was run (--tiny runs the code on a CPU)")
        return
    quiet_libraries()
    print(table(args))


def table(args: argparse.Namespace) -> str:
    """Measure, and write the figures down."""
    device = "cpu" if args.tiny else "cuda"
    side = 8 if args.tiny else 64
    parts = build(args.tiny)
    for model in (parts.unet, parts.vae, parts.text_encoder):
        model.to(device)
    module = DiffusionModule(parts, compile=not args.no_compile and not args.tiny).to(device).train()
    batch = batch_of(args.batch, side, parts.unet.config.cross_attention_dim, device)
    optimizer = torch.optim.AdamW(module.trainable(), lr=1e-5)

    def step() -> None:
        with _precision(device):
            loss = module.losses(batch, 0).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.trainable(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    flops = count_flops(module, batch, device)
    a_step = seconds(step, device, args.steps)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
    a_round = probe_round(module, parts, side, device)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU (tiny, no figure of any worth)"
    peak = args.peak_tflops or next((tflops for key, tflops in PEAKS.items() if key in name), 0.0)
    rows = {
        "device": name,
        "UNet": f"{sum(p.numel() for p in parts.unet.parameters()) / 1e6:.0f} M parameters, {8 * side} px, batch {args.batch}",
        "samples/s": f"{args.batch / a_step:.1f}",
        "MFU": f"{flops / a_step / peak / 1e12:.1%} of {peak:.0f} TFLOP/s" if peak else "– (peak not known, give --peak-tflops)",
        "peak memory": f"{memory:.1f} GiB" if memory else "–",
        f"a round of probes (4 canaries, 8 controls), of {EVERY} steps": f"{a_round / (EVERY * a_step):.1%}",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def count_flops(module: DiffusionModule, batch: dict[str, torch.Tensor], device: str) -> float:
    """Of one step's forward and backward pass, by torch's own counter on the plain model."""
    compiled, module._compiled = module._compiled, (module.unet,)
    with FlopCounterMode(display=False) as counter, _precision(device):
        module.losses(batch, 0).mean().backward()
    module.zero_grad()
    module._compiled = compiled
    return float(counter.get_total_flops())


@torch.no_grad()
def probe_round(module: DiffusionModule, parts: PipelineParts, side: int, device: str) -> float:
    """Seconds of what the schedule does at the least: detectors of up to 8 evaluations and a sample each, for 12 prompts."""
    n, width = 12, parts.unet.config.cross_attention_dim
    states, uncond = torch.randn(n, 77, width, device=device), torch.randn(1, 77, width, device=device)
    latents = torch.randn(n, 4, side, side, device=device)
    batch = ProbeBatch(states, uncond, latents, tuple(str(i) for i in range(n)), 0, parts.scheduler.config)
    probes = [TextNoiseNorm(name="text_noise_norm", steps=1, seeds=4), DenoisingLoss(seeds=1)]
    sampler = Sampler(parts.scheduler.config)

    def one() -> None:
        with module.judged() as denoiser, _precision(device):
            for probe in probes:
                probe(denoiser, batch)
            sampler(denoiser, states, uncond, latents)

    return seconds(one, device, 1)


if __name__ == "__main__":
    main()
