"""Every probe class in ``cxrguard.probes`` keeps the contract of :class:`cxrguard.probes.batch.Probe`, for either prediction type."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import DDIMScheduler, UNet2DConditionModel
from hydra.utils import instantiate
from probe_builders import BUILDERS, NOISELESS, WITH_IMAGES
from tiny_unet import random_unet
from torch import Tensor

import cxrguard.probes
from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.probes.batch import Probe, ProbeBatch
from cxrguard.probes.tokens import TokenLayout

CONF = Path(__file__).parents[2] / "conf" / "probe"


def probe_classes() -> set[type]:
    """Every public class of the package that is called as a probe is: ``(denoiser, batch)``."""
    modules = [importlib.import_module(f"cxrguard.probes.{m.name}") for m in pkgutil.iter_modules(cxrguard.probes.__path__)]
    classes = [(m, c) for m in modules for _, c in inspect.getmembers(m, inspect.isclass) if c.__module__ == m.__name__]
    called = [c for _, c in classes if "__call__" in vars(c) and not c.__name__.startswith("_") and c is not Probe]
    return {c for c in called if list(inspect.signature(vars(c)["__call__"]).parameters) == ["self", "denoiser", "batch"]}


@dataclass(frozen=True)
class Setting:
    """A model and its base, and prompts."""

    unets: tuple[UNet2DConditionModel, UNet2DConditionModel]
    denoiser: UNetDenoiser
    batch: ProbeBatch
    first: dict[str, Tensor] = field(default_factory=dict)

    def scores(self, case: str) -> Tensor:
        """The scores of all prompts, worked out once."""
        if case not in self.first:
            self.first[case] = BUILDERS[case]()(self.denoiser, self.batch)
        return self.first[case]

    def part(self, rows: list[int]) -> ProbeBatch:
        """Some of the prompts, in this order."""
        b = self.batch
        keys, tokens = tuple(b.keys[i] for i in rows), b.tokens[rows] if b.tokens else None
        return replace(b, encoder_hidden_states=b.encoder_hidden_states[rows], latents=b.latents[rows], keys=keys, tokens=tokens)


SETTINGS = {"epsilon": (4, (8, 8), 77), "v_prediction": (3, (8, 12), 130)}  # channels, sides, tokens


@pytest.fixture(scope="module", params=SETTINGS)
def setting(request: pytest.FixtureRequest) -> Setting:
    channels, sides, tokens = SETTINGS[request.param]
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=request.param, clip_sample=False
    )
    unets = random_unet(1, channels), random_unet(2, channels)
    denoiser, base = (UNetDenoiser(unet, scheduler.alphas_cumprod, request.param) for unet in unets)
    generator = torch.Generator().manual_seed(0)
    states, uncond = torch.randn(3, tokens, 16, generator=generator), torch.randn(1, tokens, 16, generator=generator)
    latents = torch.randn(3, channels, *sides, generator=generator)
    layout = TokenLayout(torch.tensor([1, 1, 1]), torch.tensor([4, 20, 9]), tokens)
    return Setting(unets, denoiser, ProbeBatch(states, uncond, latents, ("a", "b", "c"), 0, scheduler.config, base, layout))


@pytest.fixture(scope="module", params=BUILDERS)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def counted(setting: Setting) -> Iterator[list[int]]:
    """The rows that either UNet is given."""
    rows: list[int] = []
    hooks = [unet.register_forward_pre_hook(lambda _, args: rows.append(len(args[0]))) for unet in setting.unets]
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_every_class_is_built() -> None:
    missing = {c.__name__ for c in probe_classes() - {type(build()) for build in BUILDERS.values()}}
    assert not missing, f"no builder in tests/contract/probe_builders.py for {sorted(missing)}"
    assert set(BUILDERS) >= NOISELESS


@pytest.mark.parametrize("file", sorted(p.name for p in CONF.glob("*.yaml")))
def test_configured_probes_are_named_by_their_keys(file: str) -> None:
    for name, entry in yaml.safe_load((CONF / file).read_text()).items():
        if isinstance(entry, dict):  # not Hydra's list of defaults
            assert instantiate(entry).name == name


def test_full_configures_every_class_and_all_of_the_default() -> None:
    default, full = (yaml.safe_load((CONF / f"{name}.yaml").read_text()) for name in ("default", "full"))
    assert {k: full.get(k) for k in default} == default
    targets = {entry["_target_"].rsplit(".", 1)[1] for entry in full.values()}
    assert {c.__name__ for c in probe_classes()} == targets


def test_name_direction_and_cost_are_stated(case: str) -> None:
    probe = BUILDERS[case]()
    assert probe.name and probe.direction in ("higher", "lower") and probe.evals_per_prompt >= 1


def test_a_finite_float_score_for_each_prompt(case: str, setting: Setting) -> None:
    scores = setting.scores(case)
    assert scores.shape == (3,) and scores.dtype == torch.float32 and not scores.requires_grad
    assert scores.isfinite().all() and len(set(scores.tolist())) == 3


def test_the_memory_format_of_the_model_does_not_matter(case: str, setting: Setting) -> None:
    """What a run trains is channels_last; forward-mode derivatives refused it once, after the training."""
    expected, part = setting.scores(case)[1:], setting.part([1, 2])
    for unet in setting.unets:
        unet.to(memory_format=torch.channels_last)
    pointers = [p.data_ptr() for p in setting.unets[0].parameters()]
    try:
        scores = BUILDERS[case]()(setting.denoiser, part)
        assert [p.data_ptr() for p in setting.unets[0].parameters()] == pointers, "the weights are not put back as they were"
    finally:
        for unet in setting.unets:
            unet.to(memory_format=torch.contiguous_format)
    assert torch.allclose(scores, expected, rtol=1e-3, atol=1e-5)


def test_the_image_counts_where_it_is_said_to(case: str, setting: Setting) -> None:
    probe = BUILDERS[case]()
    other = replace(setting.batch, latents=setting.batch.latents.flip(0))
    same = [close(a, b) for a, b in zip(probe(setting.denoiser, other), setting.scores(case), strict=True)]
    assert getattr(probe, "needs_images", False) == (case in WITH_IMAGES)
    assert all(same) if case not in WITH_IMAGES else not (same[0] or same[2])


def test_a_batch_is_its_prompts_one_by_one_in_any_order_at_the_stated_cost(case: str, setting: Setting) -> None:
    probe, scores = BUILDERS[case](), setting.scores(case)
    with counted(setting) as rows:
        assert close(torch.cat([probe(setting.denoiser, part) for part in setting.batch.split(1)]), scores)
    assert sum(rows) == 3 * probe.evals_per_prompt
    assert close(probe(setting.denoiser, setting.part([2, 0, 1])), scores[[2, 0, 1]])


def test_the_seed_and_the_key_decide(case: str, setting: Setting) -> None:
    probe, scores = BUILDERS[case](), setting.scores(case)
    assert torch.equal(BUILDERS[case]()(setting.denoiser, setting.batch), scores)
    for other in (replace(setting.batch, seed=1), replace(setting.batch, keys=("x", "y", "z"))):
        same = (probe(setting.denoiser, other) == scores).tolist()
        assert all(same) if case in NOISELESS else not any(same)


def state(setting: Setting) -> list[Any]:
    """All that a probe must leave alone."""
    weights = [v.clone() for unet in setting.unets for v in unet.state_dict().values()]
    modules = [m for unet in setting.unets for m in unet.modules()]
    parts = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks), getattr(m, "processor", None)) for m in modules]
    given = [t.clone() for t in (setting.batch.encoder_hidden_states, setting.batch.uncond_hidden_states, setting.batch.latents)]
    generators = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()]  # type: ignore[index, union-attr]
    kernels = [torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled(), torch.is_grad_enabled()]
    schedule = [setting.denoiser.alphas_cumprod.clone(), dict(setting.batch.scheduler_config)]
    grads = [p.grad is None and p.requires_grad for unet in setting.unets for p in unet.parameters()]
    return [*weights, *parts, *given, *generators, *kernels, *schedule, *grads]


def test_nothing_is_changed(case: str, setting: Setting) -> None:
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    try:
        for unet in setting.unets:  # one part in training mode, the rest not
            unet.down_blocks.train()
        before = state(setting)
        BUILDERS[case]()(setting.denoiser, setting.batch)
        after = state(setting)
    finally:
        for unet in setting.unets:
            unet.eval()
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b


class Constant:
    """Δε is one number everywhere, whatever the size."""

    prediction_type = "epsilon"
    alphas_cumprod = torch.linspace(0.999, 0.01, 1000)

    def predict_noise(self, latents: Tensor, timesteps: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        return torch.zeros_like(latents) + encoder_hidden_states.mean(dim=(1, 2))[:, None, None, None]

    def predict_noise_pair(self, latents: Tensor, timesteps: Tensor, text: Tensor, uncond: Tensor) -> tuple[Tensor, Tensor]:
        return self.predict_noise(latents, timesteps, text), self.predict_noise(latents, timesteps, uncond.expand_as(text))


@pytest.mark.parametrize("case", [name for name in BUILDERS if "rms" in name])
def test_the_size_of_the_latents_does_not_matter_where_rms(case: str, setting: Setting) -> None:
    sizes = [replace(setting.batch, latents=torch.zeros(3, *shape)) for shape in ((4, 8, 8), (3, 16, 24), (1, 5, 7))]
    scores = [BUILDERS[case]()(Constant(), batch) for batch in sizes]
    assert all(torch.allclose(s, scores[0], rtol=1e-5) and s.min() > 0 for s in scores)
