"""Every configured probe keeps the contract on pipelines that diffusers saved, with their own text encoders (CLIP, BERT) and base."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import UNet2DConditionModel
from hydra.utils import instantiate
from torch import Tensor

from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.diffusion.encoding import encode_prompts, token_layout
from cxrguard.diffusion.loading import load_pipeline
from cxrguard.probes.batch import Probe, ProbeBatch
from cxrguard.randomness import prompt_key


def shortened(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry with 5 steps where it follows 50: the same code at a tenth of the time."""
    inner = {"probe": shortened(entry["probe"])} if "probe" in entry else {}
    if entry["_target_"].endswith("BrightEnding"):
        inner["schedule_steps"] = 5
    return entry | inner | ({"steps": 5, "schedule_steps": 5} if entry.get("steps") == 50 else {})


# full.yaml holds all of default.yaml (test_probes.py).
FULL: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "conf" / "probe" / "full.yaml").read_text())
CONFIGS = {name: shortened(entry) for name, entry in FULL.items()}
NOISELESS = {"pia", "secmi"}
PROMPTS = ["PA view. Small left pleural effusion.", "AP view. Enlarged cardiac silhouette.", "No acute cardiopulmonary process."]


@dataclass(frozen=True)
class Setting:
    """A model, prompts, and what the probe says of them when asked first."""

    probe: Probe
    denoiser: UNetDenoiser
    batch: ProbeBatch
    scores: Tensor

    @property
    def unets(self) -> tuple[UNet2DConditionModel, UNet2DConditionModel]:
        """The model's and the base's."""
        assert isinstance(self.batch.base, UNetDenoiser)
        return self.denoiser.unet, self.batch.base.unet

    def score(self, rows: list[int]) -> Tensor:
        """The scores of some of the prompts, in this order."""
        b = self.batch
        assert b.tokens is not None
        keys, tokens = tuple(b.keys[i] for i in rows), b.tokens[rows]
        chosen = replace(b, encoder_hidden_states=b.encoder_hidden_states[rows], latents=b.latents[rows], keys=keys, tokens=tokens)
        return self.probe(self.denoiser, chosen)


@pytest.fixture(scope="module", params=["epsilon with CLIP", "v_prediction with BERT"])
def model(request: pytest.FixtureRequest) -> tuple[UNetDenoiser, ProbeBatch]:
    directory = request.getfixturevalue("pipeline_dir" if request.param.startswith("epsilon") else "v_pipeline_dir")
    parts = load_pipeline(str(directory))
    latents = torch.randn(3, parts.unet.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    keys = tuple(prompt_key(p) for p in PROMPTS)
    before = copy.deepcopy(parts.unet).eval()
    with torch.no_grad():
        for i, weight in enumerate(parts.unet.parameters()):  # what fine-tuning would have moved
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(i))
    base = UNetDenoiser(before, parts.alphas_cumprod, parts.prediction_type)
    states, uncond, tokens = encode_prompts(parts, PROMPTS), encode_prompts(parts, [""]), token_layout(parts.tokenizer, PROMPTS)
    batch = ProbeBatch(states, uncond, latents, keys, 0, parts.scheduler.config, base, tokens)
    return UNetDenoiser(parts.unet.eval(), parts.alphas_cumprod, parts.prediction_type), batch


@pytest.fixture(scope="module", params=CONFIGS)
def setting(request: pytest.FixtureRequest, model: tuple[UNetDenoiser, ProbeBatch]) -> Setting:
    denoiser, batch = model
    probe = instantiate(CONFIGS[request.param])
    return Setting(probe, denoiser, batch, probe(denoiser, batch))


@pytest.mark.parametrize("name", FULL)
def test_name_direction_and_cost_are_stated(name: str) -> None:
    probe = instantiate(FULL[name])
    assert probe.name == name and probe.direction in ("higher", "lower") and probe.evals_per_prompt >= 1


def test_a_finite_float_score_for_each_prompt(setting: Setting) -> None:
    assert setting.scores.shape == (3,) and setting.scores.dtype == torch.float32
    assert setting.scores.isfinite().all() and not setting.scores.requires_grad
    assert len(set(setting.scores.tolist())) == 3


def test_permuting_the_batch_permutes_the_scores(setting: Setting) -> None:
    assert torch.allclose(setting.score([2, 0, 1]), setting.scores[[2, 0, 1]], rtol=1e-4, atol=1e-4)


def test_a_prompt_alone_scores_the_same(setting: Setting) -> None:
    assert torch.allclose(setting.score([1]), setting.scores[1:2], rtol=1e-4, atol=1e-4)


def test_nothing_is_changed_and_the_same_seed_gives_the_same_scores(setting: Setting) -> None:
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    before = state(setting)
    assert torch.equal(setting.score([0, 1, 2]), setting.scores)
    for a, b in zip(before, state(setting), strict=True):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b


def state(setting: Setting) -> list[Any]:
    """Weights, train or eval mode and hooks of both models, random states."""
    weights = [v.clone() for unet in setting.unets for v in unet.state_dict().values()]
    modules = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for unet in setting.unets for m in unet.modules()]
    return [*weights, *modules, random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()]  # type: ignore[index, union-attr]


def test_another_seed_or_key_gives_another_score(setting: Setting) -> None:
    pair = replace(setting, batch=replace(setting.batch, seed=1)), replace(setting, batch=replace(setting.batch, keys=("x", "y", "z")))
    for other in pair:  # in batches of one size, which round alike
        assert torch.equal(other.score([0]), setting.score([0])) == (setting.probe.name in NOISELESS)


def test_evals_per_prompt_are_the_evaluations_made(setting: Setting) -> None:
    rows: list[int] = []
    hooks = [unet.register_forward_pre_hook(lambda _, args: rows.append(len(args[0]))) for unet in setting.unets]
    try:
        setting.score([0, 1])
    finally:
        for hook in hooks:
            hook.remove()
    assert sum(rows) == 2 * setting.probe.evals_per_prompt
