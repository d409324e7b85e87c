"""``docs/detectors.md``: its example is a detector that a run takes by name, and its table names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.diffusion.encoding import encode_prompts
from cxrguard.diffusion.loading import load_pipeline
from cxrguard.probes.batch import ProbeBatch
from cxrguard.randomness import prompt_key

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "detectors.md").read_text(encoding="utf-8")
PROMPTS = ["PA view. Small left effusion.", "AP view. No effusion.", "Clear lungs."]


def test_the_example_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipeline_dir: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "my_package.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    (override,) = re.findall(r"`(\+probe\.\S+)`", PAGE)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        probe = instantiate(compose("config", [override]).probe.last_norm)
    parts = load_pipeline(str(pipeline_dir))
    states, keys = encode_prompts(parts, PROMPTS), tuple(prompt_key(p) for p in PROMPTS)
    batch = ProbeBatch(states, encode_prompts(parts, [""]), torch.zeros(3, 4, 8, 8), keys, 0, parts.scheduler.config)
    denoiser = UNetDenoiser(parts.unet.eval(), parts.alphas_cumprod, parts.prediction_type)
    scores = probe(denoiser, batch)
    alone = torch.cat([probe(denoiser, part) for part in batch.split(1)])
    assert scores.shape == (3,) and (scores > 0).all()
    torch.testing.assert_close(scores, alone, rtol=1e-4, atol=1e-5)


def test_the_table_names_every_file_of_a_probe() -> None:
    full = yaml.safe_load((ROOT / "conf" / "probe" / "full.yaml").read_text())
    modules = {entry["_target_"].rsplit(".", 2)[1] for entry in full.values()}
    rows = "\n".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    shown = {"pure_noise": "pure_noise_norm", "relative": "RelativeToBase"}
    assert {m for m in modules if f"`{shown.get(m, m)}`" not in rows} == set()


def test_every_embedder_is_named() -> None:
    assert [p.stem for p in (ROOT / "conf" / "embedder").glob("*.yaml") if f"`{p.stem}`" not in PAGE] == []
