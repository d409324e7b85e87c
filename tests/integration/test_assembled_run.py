"""``model=radedit`` with parts of a tiny kind in the places of the published ones, from the command line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from tiny_parts import save_parts

from cxrguard.audit.record import read_audit
from cxrguard.diffusion.encoding import encode_prompts
from cxrguard.diffusion.loading import load_pipeline

Train = Callable[..., subprocess.CompletedProcess[str]]


def overrides(parts: dict[str, str]) -> list[str]:
    return ["model=radedit", *(f"model.source.{name}={parts[name]}" for name in ("unet", "vae", "text_encoder"))]


def test_an_assembly_trains_and_exports_a_plain_pipeline(train: Train, tmp_path: Path) -> None:
    parts = save_parts(tmp_path / "smith_j")
    out = tmp_path / "out"
    rate = ["model.module.learning_rate=1e-2", "model.module.warmup_steps=0", "model.module.ema_decay=0"]
    run = train(*overrides(parts), *rate, "trainer.max_steps=2", "probes.every_n_steps=0", f"hydra.run.dir={out}")
    assert run.returncode == 0, run.stdout + run.stderr
    audit = read_audit(out / "audit.json")
    assert audit["steps"] == 2 and audit["run"]["model"] == "unet <path>, vae <path>, text_encoder <path>"
    for path in ("audit.json", "report.html", "MODEL_CARD.md", *(str(p.relative_to(out)) for p in (out / "pipeline").rglob("*.json"))):
        assert "smith_j" not in (out / path).read_text(), path
    before, after = load_pipeline(parts), load_pipeline(str(out / "pipeline"))
    assert torch.equal(encode_prompts(before, ["No effusion."]), encode_prompts(after, ["No effusion."]))
    assert any(not torch.equal(a, b) for a, b in zip(before.unet.parameters(), after.unet.parameters(), strict=True))
    pipe = DiffusionPipeline.from_pretrained(out / "pipeline")
    pipe.set_progress_bar_config(disable=True)
    assert pipe("No effusion.", num_inference_steps=1).images[0].size == (64, 64)


def test_parts_that_do_not_fit_are_told_by_name(train: Train, tmp_path: Path) -> None:
    parts = save_parts(tmp_path) | {"vae": "packaged:tiny::vae"}
    run = train(*overrides(parts), f"hydra.run.dir={tmp_path / 'out'}")
    assert run.returncode == 1 and "Traceback" not in run.stdout + run.stderr
    lines = [line for line in run.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and "takes latents of 4 channels, the VAE makes 8" in lines[0] and "set model.source.vae" in lines[0]
    assert json.loads((tmp_path / "out" / "status.json").read_text())["status"] == "failed"
