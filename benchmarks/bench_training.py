"""Training speed, as ratios in one run: this trainer against a plain loop written the way diffusers' example trains.

Same model, images on disk, batch, precision and number of steps; the plain loop decodes, encodes with VAE and text encoder, and trains,
every step. The trainer is timed cold (decoding and encoding everything once, then training, over ``--epochs``) and warm (training on
what is encoded). Also the share of a warm step that waits for data. With each memory format in both, and as each is by default: the example
trains in torch's own format, the trainer in channels_last.

python benchmarks/bench_training.py [--images 256] [--epochs 3] [--batch 16]
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from callbacks.runtime import quiet_libraries
from cxrguard.data.datamodule import ReportDataModule
from cxrguard.data.phantom import PhantomReader
from cxrguard.data.prepare import CanarySettings
from cxrguard.data.table import TableReader
from cxrguard.diffusion.loading import PipelineParts, load_pipeline
from cxrguard.diffusion.module import DiffusionModule
from cxrguard.sanitizer.sanitizer import PromptSanitizer


def write_table(directory: Path, n: int, side: int) -> Path:
    """``n`` images of ``side`` pixels with prompts, one a patient."""
    records = PhantomReader(n_patients=n).read()[0][:n]
    with (directory / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "prompt", "subject_id"])
        for i, record in enumerate(records):
            assert record.pixels is not None
            Image.fromarray(record.pixels).resize((side, side), Image.Resampling.BICUBIC).save(directory / f"{i}.png")
            writer.writerow([f"{i}.png", record.prompt, i])
    return directory / "table.csv"


class Plain(Dataset[dict[str, Any]]):
    """As in diffusers' example: an image decoded and a caption tokenized a sample."""

    def __init__(self, table: Path, tokenizer: Any, size: int) -> None:
        with table.open(newline="") as file:
            self.rows = list(csv.DictReader(file))
        self.directory, self.tokenizer, self.size = table.parent, tokenizer, size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        with Image.open(self.directory / self.rows[i]["image"]) as image:
            pixels = np.asarray(image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR))
        length = self.tokenizer.model_max_length
        ids = self.tokenizer(
            self.rows[i]["prompt"], max_length=length, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids[0]
        return {"pixel_values": torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1, "input_ids": ids}


def plain_loop(parts: PipelineParts, table: Path, size: int, batch: int, steps: int, channels_last: bool) -> float:
    """Seconds of ``steps`` steps of the plain loop."""
    unet, scheduler = parts.unet.train(), parts.scheduler
    unet.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    parts.vae.requires_grad_(False)
    parts.text_encoder.requires_grad_(False)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4)
    data = DataLoader(Plain(table, parts.tokenizer, size), batch, shuffle=True, drop_last=True)
    done, start = 0, time.perf_counter()
    while done < steps:
        for rows in data:
            with torch.no_grad():
                latents = parts.vae.encode(rows["pixel_values"]).latent_dist.sample() * parts.vae.config.scaling_factor
                states = parts.text_encoder(rows["input_ids"])[0]
            noise = torch.randn_like(latents)
            timesteps = torch.randint(scheduler.config.num_train_timesteps, (len(latents),))
            noisy = scheduler.add_noise(latents, noise, timesteps)
            target = noise if parts.prediction_type == "epsilon" else scheduler.get_velocity(latents, noise, timesteps)
            loss = F.mse_loss(unet(noisy, timesteps, states, return_dict=False)[0], target)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            done += 1
            if done == steps:
                break
    return time.perf_counter() - start


class Waits(pl.Callback):
    """Seconds between the end of a step and the start of the next: waiting for data."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.steps: list[float] = []
        self._end = self._start = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        self._start = time.perf_counter()
        if self._end:
            self.waits.append(self._start - self._end)

    def on_train_batch_end(self, *_: Any) -> None:
        self._end = time.perf_counter()
        self.steps.append(self._end - self._start)


def ours(parts: PipelineParts, table: Path, size: int, batch: int, steps: int, channels_last: bool) -> tuple[float, float, Waits]:
    """(seconds of encoding, seconds of ``steps`` steps, what the steps waited)."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        data = ReportDataModule(
            TableReader(str(table), "image", "prompt", "subject_id"),
            PromptSanitizer(conventions=["mimic_cxr"], action="off"),
            CanarySettings(n=0),
            batch_size=batch,
            image_size=size,
            heldout_fraction=0.02,
            out_dir=Path(directory),
        )
        data.encode(parts)
        encoded = time.perf_counter() - start
        module = DiffusionModule(parts, learning_rate=1e-4, channels_last=channels_last)
        waits = Waits()
        trainer = pl.Trainer(
            max_steps=steps,
            max_epochs=-1,
            accelerator="cpu",
            gradient_clip_val=1.0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[waits],
        )
        start = time.perf_counter()
        trainer.fit(module, train_dataloaders=data.train_dataloader())
        return encoded, time.perf_counter() - start, waits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--model", default="packaged:tiny")
    parser.add_argument("--side", type=int, default=256, help="pixels a side of the files on disk")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    quiet_libraries()
    warnings.filterwarnings("ignore")
    steps = args.epochs * (args.images // args.batch) - 1
    with tempfile.TemporaryDirectory() as directory:
        table = write_table(Path(directory), args.images, args.side)
        for layout, formats in (("contiguous", (False, False)), ("channels_last", (True, True)), ("as by default", (False, True))):
            rows = [once(args, table, steps, *formats) for _ in range(args.repeats)]
            for name, values in zip(("cold, all epochs", "warm", "wait for data"), zip(*rows, strict=True), strict=True):
                middle = statistics.median(values)
                unit = "% of a step" if name.startswith("wait") else "x the plain loop"
                spread = ", ".join(f"{v:.2f}" for v in values)
                print(f"{layout}, {name}: {middle:.2f} {unit} (runs: {spread})", flush=True)


def once(args: argparse.Namespace, table: Path, steps: int, plain_last: bool, ours_last: bool) -> tuple[float, float, float]:
    """(cold ratio, warm ratio, % of a step that waits), plain loop and trainer one after the other, channels_last or not."""
    size = load_pipeline(args.model).image_size or 64
    plain = plain_loop(load_pipeline(args.model), table, size, args.batch, steps, plain_last)
    encoded, trained, waits = ours(load_pipeline(args.model), table, size, args.batch, steps, ours_last)
    waited = 100 * sum(waits.waits) / (sum(waits.waits) + sum(waits.steps))
    return plain / (encoded + trained), plain / trained, waited


if __name__ == "__main__":
    main()
