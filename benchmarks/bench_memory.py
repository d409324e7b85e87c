"""Memory of the data path against the number of rows, as a ratio in one run.

A table of generated images (all different) goes the whole way in a process of its own: read, decoded, split, planted, sanitized,
encoded with the packaged tiny model, served for some batches, and compared with 64 samples. What counts is the high-water mark of
*anonymous* memory (RssAnon of /proc/self/status, sampled): mapped files are in RSS too, but the kernel takes their pages back.

    python benchmarks/bench_memory.py                          1,000 and 20,000 rows: 3 minutes
    python benchmarks/bench_memory.py --rows 1000 100000       the whole claim: about 15 minutes, 4 GB of disk

The images are small (--size 16), since the autoencoder is what takes the time; of larger ones only the mapped files grow.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

LEXICON = ("clear", "lungs", "heart", "normal", "size", "effusion", "small", "left", "right", "base", "opacity", "edema", "acute", "mild")


def write_table(folder: Path, rows: int, size: int) -> Path:
    """``rows`` images, each another one, and prompts, each another one, of as many patients."""
    from PIL import Image

    generator = np.random.default_rng(0)
    with (folder / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "prompt", "subject_id"])
        for i in range(rows):
            coarse = generator.integers(0, 256, (8, 8), np.uint8)
            path = folder / f"{i // 1000:03d}" / f"{i:06d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(path, compress_level=1)
            words = " ".join(generator.choice(LEXICON, 30))
            table.writerow([path.relative_to(folder), f"FINDINGS: {words}. IMPRESSION: study {i}.", f"p{i}"])
    return folder / "table.csv"


class HighWater:
    """The most anonymous memory so far, in MB, by phase."""

    def __init__(self) -> None:
        self.peaks: dict[str, float] = {}
        self.phase = "start"
        threading.Thread(target=self._watch, daemon=True).start()

    def now(self) -> float:
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon"))
        return int(line.split()[1]) / 1024

    def _watch(self) -> None:
        while True:
            self.peaks[self.phase] = max(self.peaks.get(self.phase, 0.0), self.now())
            time.sleep(0.02)

    def enter(self, phase: str) -> None:
        self.peaks[self.phase] = max(self.peaks.get(self.phase, 0.0), self.now())
        self.phase = phase


def go_the_whole_way(table: Path, size: int) -> dict[str, object]:
    """What a run does with its data; the peak of each phase in MB."""
    from cxrguard.audit.extraction import nearest
    from cxrguard.audit.groups import build_judged
    from cxrguard.data.datamodule import ReportDataModule
    from cxrguard.data.prepare import CanarySettings
    from cxrguard.data.table import TableReader
    from cxrguard.diffusion.loading import load_pipeline
    from cxrguard.sanitizer.sanitizer import PromptSanitizer

    parts = load_pipeline("packaged:tiny")
    memory = HighWater()
    sanitizer, canaries = PromptSanitizer(["mimic_cxr"]), CanarySettings(n=8, repeats=8, n_controls=100, n_members=32)
    reader = TableReader(str(table), "image", "prompt", "subject_id")
    data = ReportDataModule(reader, sanitizer, canaries, image_size=size, out_dir=table.parent, cache_dir=table.parent / "cache")
    memory.enter("read and encode")
    study = data.encode(parts)
    memory.enter("serve")
    for index, _ in enumerate(data.train_dataloader()):
        if index == 200:
            break
    memory.enter("judge")
    references = build_judged(parts, study, 32, 0).references
    for space in ("pixels", "latents"):
        nearest(references.null[space][:64], references.training[space])
    memory.enter("end")
    return {"members": len(study.members), "mb": {name: round(peak) for name, peak in memory.peaks.items()}}


def measure(rows: int, size: int) -> float:
    """Prints what ``rows`` rows take; returns the peak in MB."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        table = write_table(Path(name), rows, size)
        start = time.perf_counter()
        command = [sys.executable, __file__, "--child", str(table), "--size", str(size)]
        child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - start
        cached = sum(p.stat().st_size for p in (Path(name) / "cache").rglob("*") if p.is_file()) / 1e6
        found = json.loads(child.stdout.splitlines()[-1])
        peak = max(found["mb"].values())
        print(f"{rows:,} rows ({found['members']:,} members) of {size} px: at most {peak:,} MB, beside {cached:,.0f} MB of mapped files")
        print(f"  by phase: {', '.join(f'{name} {mb:,} MB' for name, mb in found['mb'].items())}; {seconds:.0f} s", flush=True)
    return float(peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=[1000, 20_000])
    parser.add_argument("--size", type=int, default=16, help="pixels a side")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(go_the_whole_way(arguments.child, arguments.size)))
        return
    few, many = (measure(rows, arguments.size) for rows in arguments.rows)
    print(f"{arguments.rows[1] / arguments.rows[0]:,.0f} × the rows take {many / few:.2f} × the memory")


if __name__ == "__main__":
    main()
