"""What probing costs, as ratios in one run.

The sampler against diffusers' own pipeline; each probe against a training step; a probe round of the default experiment against the
training between two rounds. The latter trains: about two minutes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

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


def probe_round(steps: int = 150) -> None:
    """The first round of the default experiment, and its first steps."""
    root = Path(__file__).parents[1]
    sys.path.insert(0, str(root))
    from callbacks.job import build_evaluator, build_trainer, schedule_of
    from train import build_job

    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(root / "conf"), version_base="1.3"):
        overrides = [f"hydra.run.dir={folder}", f"hydra.runtime.output_dir={folder}", "callbacks.checkpoint=null"]
        cfg = compose("config", [*overrides, "+trainer.enable_checkpointing=false"], return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        every, whole = int(cfg.probes.every_n_steps), int(cfg.trainer.max_steps)
        cfg.trainer.max_steps = steps
        job = build_job(cfg, Path(folder))
        parts = load_pipeline("packaged:tiny")
        evaluator = build_evaluator(job, parts, job.data.encode(parts), [])
        schedule = schedule_of(job)
        schedule.attach(evaluator, job.probes, job.data.val_dataloader, Path(folder))
        module = job.make_module(parts, seed=0)
        trainer = build_trainer(job)
        start = time.perf_counter()
        trainer.fit(module, train_dataloaders=job.data.train_dataloader())
        one = (time.perf_counter() - start - schedule.seconds) / steps
    looked = " and ".join(f"{n} {name}" for name, n in schedule.curves[0]["n"].items())
    between, total = schedule.seconds / (one * every), schedule.seconds * (whole // every + 1) / (one * whole)
    print(f"a probe round of the default experiment, of {looked}: {100 * between:.1f} % of the {every} steps to the next;")
    rates = f"{schedule.seconds:.1f} s a round, {1000 * one:.0f} ms a step"
    print(f"and {100 * schedule.seconds / (one * whole):.1f} % of the whole training ({whole} steps);")
    print(f"all {whole // every + 1} rounds: {100 * total:.1f} % of the training ({rates})")


if __name__ == "__main__":
    main()
    probe_round()
