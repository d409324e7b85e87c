"""Every probe of the default configuration keeps the contract on pipelines that diffusers saved, with their own text encoders."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra.utils import instantiate
from torch import Tensor

from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.diffusion.encoding import encode_prompts
from cxrguard.diffusion.loading import load_pipeline
from cxrguard.probes.batch import Probe, ProbeBatch
from cxrguard.randomness import prompt_key

CONFIGS: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "conf" / "probe" / "default.yaml").read_text())
PROMPTS = ["PA view. Small left pleural effusion.", "AP view. Enlarged cardiac silhouette.", "No acute cardiopulmonary process."]


@dataclass(frozen=True)
class Setting:
    """A model, prompts, and what the probe says of them when asked first."""

    probe: Probe
    denoiser: UNetDenoiser
    batch: ProbeBatch
    scores: Tensor

    def score(self, rows: list[int]) -> Tensor:
        """The scores of some of the prompts, in this order."""
        b = self.batch
        chosen = replace(
            b, encoder_hidden_states=b.encoder_hidden_states[rows], latents=b.latents[rows], keys=tuple(b.keys[i] for i in rows)
        )
        return self.probe(self.denoiser, chosen)


@pytest.fixture(scope="module", params=["epsilon with CLIP", "v_prediction with BERT"])
def model(request: pytest.FixtureRequest) -> tuple[UNetDenoiser, ProbeBatch]:
    directory = request.getfixturevalue("pipeline_dir" if request.param.startswith("epsilon") else "v_pipeline_dir")
    parts = load_pipeline(str(directory))
    latents = torch.randn(3, parts.unet.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    keys = tuple(prompt_key(p) for p in PROMPTS)
    batch = ProbeBatch(encode_prompts(parts, PROMPTS), encode_prompts(parts, [""]), latents, keys, 0, parts.scheduler.config)
    return UNetDenoiser(parts.unet.eval(), parts.alphas_cumprod, parts.prediction_type), batch


@pytest.fixture(scope="module", params=CONFIGS)
def setting(request: pytest.FixtureRequest, model: tuple[UNetDenoiser, ProbeBatch]) -> Setting:
    denoiser, batch = model
    probe = instantiate(CONFIGS[request.param])
    return Setting(probe, denoiser, batch, probe(denoiser, batch))


@pytest.mark.parametrize("name", CONFIGS)
def test_name_direction_and_cost_are_stated(name: str) -> None:
    probe = instantiate(CONFIGS[name])
    assert probe.name == name and probe.direction in ("higher", "lower") and probe.evals_per_prompt >= 1


def test_a_finite_float_score_for_each_prompt(setting: Setting) -> None:
    assert setting.scores.shape == (3,) and setting.scores.dtype == torch.float32
    assert setting.scores.isfinite().all() and not setting.scores.requires_grad
    assert len(set(setting.scores.tolist())) == 3


def test_permuting_the_batch_permutes_the_scores(setting: Setting) -> None:
    assert torch.allclose(setting.score([2, 0, 1]), setting.scores[[2, 0, 1]], rtol=1e-4, atol=1e-4)


def test_a_prompt_alone_scores_the_same(setting: Setting) -> None:
    assert torch.allclose(setting.score([1]), setting.scores[1:2], rtol=1e-4, atol=1e-4)


def test_deterministic_and_global_generators_are_left_alone(setting: Setting) -> None:
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index, union-attr]
    weights = {k: v.clone() for k, v in setting.denoiser.unet.state_dict().items()}
    assert torch.equal(setting.score([0, 1, 2]), setting.scores)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index, union-attr]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert all(torch.equal(v, weights[k]) for k, v in setting.denoiser.unet.state_dict().items())


def test_another_seed_or_key_gives_another_score(setting: Setting) -> None:
    pair = replace(setting, batch=replace(setting.batch, seed=1)), replace(setting, batch=replace(setting.batch, keys=("x", "y", "z")))
    for other in pair:
        assert not torch.equal(other.score([0]), setting.scores[:1])


def test_evals_per_prompt_are_the_evaluations_made(setting: Setting) -> None:
    rows: list[int] = []
    hook = setting.denoiser.unet.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    try:
        setting.score([0, 1])
    finally:
        hook.remove()
    assert sum(rows) == 2 * setting.probe.evals_per_prompt
