"""What runs keep for each other: nothing unless asked, and then it changes no figure."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from leaks import leaks
from nih_miniature import write_nih_miniature

UNET = "pipeline/unet/diffusion_pytorch_model.safetensors"


def judged(run: Path) -> dict[str, Any]:
    record = json.loads((run / "audit.json").read_text())
    return {name: value for name, value in record.items() if name not in ("seconds", "run")}


@pytest.mark.runs("straight")
def test_a_run_s_own_cache_is_gone_after_it(runs):
    assert runs["straight"].status == 0 and not (runs["straight"].dir / "cache").exists()


def test_a_kept_cache_changes_no_figure_and_is_private(train, pipeline_dir, tmp_path):
    data = write_nih_miniature(tmp_path / "nih")
    cache = tmp_path / "kept"
    nih = ["experiment=nih_canaries", f"data.root={data.root}", "data.heldout_fraction=0.65", "data.max_bad_fraction=0.02"]
    nih += ["model=pipeline", f"model.source={pipeline_dir}", "base_stage.max_steps=2", "trainer.max_steps=2", "probes.every_n_steps=0"]
    made: dict[str, dict[str, bytes]] = {}
    for name, extra in (("alone", []), ("first", [f"cache.dir={cache}"]), ("again", [f"cache.dir={cache}"])):
        run = train(*nih, *extra, f"hydra.run.dir={tmp_path / name}")
        assert run.returncode == 0, run.stdout + run.stderr
        made[name] = {p.relative_to(cache).as_posix(): p.read_bytes() for p in cache.rglob("*.bin")} if cache.exists() else {}
    assert judged(tmp_path / "alone") == judged(tmp_path / "first") == judged(tmp_path / "again")
    assert len({(tmp_path / name / UNET).read_bytes() for name in made}) == 1
    assert made["alone"] == {} and made["first"] == made["again"]  # a row that is made again is added at the end
    assert {name.split("-")[0] for name in made["first"]} == {"pixels", "latents", "text"}
    assert {stat.S_IMODE(p.stat().st_mode) for p in cache.rglob("*")} == {0o600, 0o700}
    assert not leaks(cache, [text.encode() for text in (*data.names, *data.patients, "FINDINGS")])
