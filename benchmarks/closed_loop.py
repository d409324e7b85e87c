"""The loop closed once: attribute an unguarded model, turn its top words into cues, train again with them, and compare.

.venv/bin/python benchmarks/closed_loop.py --out outputs/closed_loop

Everything goes as a user would do it: a table of phantoms on disk, ``train.py``, ``cxrguard attribute --cues``, ``train.py``
with ``sanitizer.cues``. Both runs have the same seed, data, canaries and steps.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from cxrguard.data.phantom import PhantomReader

ROOT = Path(__file__).resolve().parents[1]
PATIENTS = 460


def write_table(directory: Path) -> Path:
    """Phantoms as PNG files and a table of image, prompt and patient."""
    records, images = PhantomReader(n_patients=PATIENTS).read()[0], directory / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, record in enumerate(records):
        Image.fromarray(record.pixels).save(images / f"{index}.png")
        rows.append((f"images/{index}.png", record.prompt, record.subject_id))
    with (directory / "reports.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "prompt", "subject_id"), *rows])
    return directory / "reports.csv"


def train(table: Path, run_dir: Path, steps: int, *overrides: str) -> dict[str, Any]:
    """One run; its audit. A run that is there already is read."""
    if not (run_dir / "audit.json").is_file():
        settings = [
            "data=table", f"data.path={table}", "data.deid_markers=true", "embedder=none", "guard=monitor", "canaries.n=6",
            "canaries.repeats=22", "canaries.n_controls=24", "canaries.n_prompt_controls=0", "canaries.n_members=24",
            "model.module.learning_rate=1e-3", f"model.module.decay_steps={steps}", f"trainer.max_steps={steps}", "probes.every_n_steps=0",
            "sampling.steps=10", "sampling.samples_per_prompt=8", "sampling.samples_per_prompt_replication=0",
            "probe.text_noise_norm_mean=null", f"cache.dir={run_dir.parent / 'cache'}",
        ]  # fmt: skip
        subprocess.run([sys.executable, "train.py", *settings, *overrides, f"hydra.run.dir={run_dir}"], cwd=ROOT, check=True)
    audit: dict[str, Any] = json.loads((run_dir / "audit.json").read_text())
    return audit


def mean_scores(run_dir: Path) -> dict[str, float]:
    """Mean first-step score of canaries and of controls."""
    with (run_dir / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    groups = {name: [float(r["text_noise_norm"]) for r in rows if r["group"] == name] for name in ("canaries", "controls")}
    return {name: sum(values) / len(values) for name, values in groups.items()}


def main() -> None:
    """Train, attribute, train again, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=700)
    args = parser.parse_args()
    out = args.out.resolve()
    table = write_table(out / "data")
    cues = out / "cues.csv"
    runs = {"unguarded": ("sanitizer=off",), "with the cues": ("sanitizer=mimic_cxr", f"sanitizer.cues={cues}")}
    found = {}
    for name, overrides in runs.items():
        run_dir = out / name.replace(" ", "_")
        found[name] = (train(table, run_dir, args.steps, *overrides), mean_scores(run_dir))
        if not cues.exists():
            model, words = run_dir / "pipeline", out / "words.csv"
            arguments = ["attribute", "--model", model, "--prompts", table, "--out", words, "--cues", cues]
            subprocess.run([sys.executable, "-m", "cxrguard.cli", *map(str, arguments)], cwd=ROOT, check=True)
    print("| | canaries extracted | any image under controls | score of canaries | of controls | AUC | prompts edited |")
    print("|---|---|---|---|---|---|---|")
    for name, (audit, scores) in found.items():
        rate, spill, n = audit["canaries"]["extraction_rate"], audit["controls"]["spillover_rate"], audit["canaries"]["n"]
        auc = audit["detectors"]["text_noise_norm"]["auc"]
        cells = [f"{round(rate * n)} of {n}", f"{spill:.0%}", f"{scores['canaries']:.3f}", f"{scores['controls']:.3f}"]
        print(f"| {name} | {' | '.join(cells)} | {'–' if auc is None else f'{auc:.2f}'} | {audit['sanitizer']['edited']} |")


if __name__ == "__main__":
    main()
