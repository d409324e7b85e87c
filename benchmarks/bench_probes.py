"""What probing costs, as ratios in one run: sampler against diffusers' own pipeline, each probe against a training step."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.diffusion.encoding import decode_latents, encode_prompts
from cxrguard.diffusion.export import build_pipeline
from cxrguard.diffusion.loading import load_pipeline
from cxrguard.diffusion.sampling import Sampler
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.denoising_loss import DenoisingLoss
from cxrguard.probes.text_noise_norm import TextNoiseNorm
from cxrguard.randomness import normal

N = 16


def seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(4):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parts = load_pipeline("packaged:tiny")
    prompts = [f"FINDINGS: PA view. Study number {i}." for i in range(N)]
    noise = torch.stack([normal((8, 8, 8), "bench", i) for i in range(N)])
    states, uncond = encode_prompts(parts, prompts), encode_prompts(parts, [""])
    denoiser = UNetDenoiser(parts.unet.eval(), parts.alphas_cumprod, parts.prediction_type)
    sampler = Sampler(parts.scheduler.config, steps=20, guidance_scale=3.0)
    pipe = build_pipeline(parts)
    pipe.set_progress_bar_config(disable=True)
    theirs = seconds(lambda: pipe(prompts, latents=noise, num_inference_steps=20, guidance_scale=3.0, output_type="pt"))
    ours = seconds(lambda: decode_latents(parts, sampler(denoiser, states, uncond, noise)))
    print(f"sampling {N} images: {theirs / ours:.2f} × the speed of StableDiffusionPipeline ({ours:.2f} s, {theirs:.2f} s)")

    def step() -> None:
        timesteps = torch.full((N,), 500)
        denoiser.predict(noise, timesteps, states).square().mean().backward()

    one = seconds(step)
    batch = ProbeBatch(states, uncond, noise, tuple(str(i) for i in range(N)), 0, parts.scheduler.config)
    for probe in (TextNoiseNorm(), TextNoiseNorm(name="text_noise_norm_mean", steps=50, seeds=1), DenoisingLoss()):
        took = seconds(lambda probe=probe: probe(denoiser, batch))  # type: ignore[misc]
        print(f"{probe.name}: {N} prompts cost {took / one:.1f} training steps of {N} ({probe.evals_per_prompt} evaluations a prompt)")


if __name__ == "__main__":
    main()
