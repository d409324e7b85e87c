"""Every mitigation at inference keeps its contract: on CLIP and BERT, with epsilon and v-prediction."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import cxrguard.mitigations.inference
from cxrguard.mitigating import catalogue
from cxrguard.mitigating.mitigator import Mitigator, Outcome
from cxrguard.mitigations.inference.base import InferenceMitigation
from cxrguard.mitigations.inference.generate import MitigatedSampler
from cxrguard.mitigations.inference.insertion import Insertion
from cxrguard.scoring.model import ScoringModel

PROMPTS = [
    "PA view. In comparison with the study of ___, there is a small left effusion.",
    "AP view. Clear lungs.",
    "Stable cardiomegaly. " + "No focal consolidation. " * 8,
]
ABSTRACT = {InferenceMitigation, Insertion}
STEPS, DRAWS = 4, 2


def classes() -> set[type]:
    """Every public class of the package that is a mitigation."""
    package = cxrguard.mitigations.inference
    modules = [importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    found = {c for m in modules for _, c in inspect.getmembers(m, inspect.isclass) if c.__module__ == m.__name__}
    return {c for c in found if issubclass(c, InferenceMitigation)} - ABSTRACT


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_NOISE_ITERATIONS", 3)


@pytest.fixture(scope="module", params=["pipeline_dir", "v_pipeline_dir"])
def model(request: pytest.FixtureRequest) -> ScoringModel:
    return ScoringModel(str(request.getfixturevalue(request.param)))


@pytest.fixture(params=catalogue.MITIGATIONS)
def mitigation(request: pytest.FixtureRequest) -> InferenceMitigation:
    built = catalogue.build(request.param)
    for name in ("target", "rho"):  # random weights steer little: the published targets are met before the first step
        if getattr(built, name, 0) is None:
            setattr(built, name, 0.0 if name == "target" else 5.0)
    return built


def run(model: ScoringModel, mitigation: InferenceMitigation, prompts: list[str], seed: int = 0, batch_size: int = 64) -> list[Outcome]:
    sampler = MitigatedSampler(model.parts.scheduler.config, STEPS, 3.0)
    found = Mitigator(model, [mitigation], sampler, seed, DRAWS, batch_size)(prompts)
    return [outcomes[mitigation.name] for outcomes in found]


def alike(a: list[Outcome], b: list[Outcome]) -> bool:
    """As near as sums in another order leave them, after an optimizer's steps."""
    return all(
        (x.text, x.evaluations) == (y.text, y.evaluations)
        and math.isclose(x.text_noise_norm or 0, y.text_noise_norm or 0, rel_tol=1e-3)
        and math.isclose(x.change or 0, y.change or 0, rel_tol=2e-2, abs_tol=1e-7)
        for x, y in zip(a, b, strict=True)
    )


@contextmanager
def counted(model: ScoringModel) -> Iterator[list[int]]:
    rows: list[int] = []
    hook = model.parts.unet.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    try:
        yield rows
    finally:
        hook.remove()


def test_every_class_is_in_the_catalogue_by_its_name() -> None:
    built = {name: catalogue.build(name) for name in catalogue.MITIGATIONS}
    assert {type(m) for m in built.values()} == classes()
    assert {name: m.name for name, m in built.items()} == {name: name for name in built}
    assert all(m.acts_on and set(m.acts_on) <= {"prompt", "embedding", "noise", "attention", "guidance"} for m in built.values())
    assert catalogue.build("none").acts_on == ()


def test_a_batch_is_its_prompts_one_by_one_in_any_order(model: ScoringModel, mitigation: InferenceMitigation) -> None:
    together = run(model, mitigation, PROMPTS)
    assert all(o.text and o.text_noise_norm and math.isfinite(o.text_noise_norm) and o.change is not None for o in together)
    assert alike(together, [run(model, mitigation, [prompt])[0] for prompt in PROMPTS])
    assert alike(together[::-1], run(model, mitigation, PROMPTS[::-1], batch_size=2))


def test_the_seed_decides(model: ScoringModel, mitigation: InferenceMitigation) -> None:
    first, again, other = (run(model, mitigation, PROMPTS, seed) for seed in (0, 0, 1))
    assert first == again
    assert all(a.text_noise_norm != b.text_noise_norm for a, b in zip(first, other, strict=True))


def test_every_evaluation_is_counted(model: ScoringModel, mitigation: InferenceMitigation) -> None:
    with counted(model) as rows:
        found = run(model, mitigation, PROMPTS[:1])
    plain = 2 * STEPS * DRAWS
    assert sum(rows) == plain + found[0].evaluations and found[0].evaluations >= plain


def test_it_does_something_to_what_it_acts_on(model: ScoringModel, mitigation: InferenceMitigation) -> None:
    plain, found = run(model, InferenceMitigation(), PROMPTS[:1])[0], run(model, mitigation, PROMPTS[:1])[0]
    assert plain.change == 0 and found.change is not None and found.change > 0
    assert (found.text != plain.text) == ("prompt" in mitigation.acts_on)
    same = math.isclose(plain.text_noise_norm or 0, found.text_noise_norm or 0, rel_tol=1e-6)
    assert same != mitigation.moves_score


def state(model: ScoringModel) -> list[Any]:
    unet = model.parts.unet
    parts = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks), getattr(m, "processor", None)) for m in unet.modules()]
    generators = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]  # type: ignore[index, union-attr]
    weights = [float(p.double().sum()) for p in unet.parameters()]
    return [parts, generators, weights, [p.grad is None for p in unet.parameters()], torch.is_grad_enabled()]


def test_the_model_and_global_randomness_are_left_alone(model: ScoringModel, mitigation: InferenceMitigation) -> None:
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    before = state(model)
    run(model, mitigation, PROMPTS[:2])
    assert state(model) == before


def test_no_text_in_a_repr(model: ScoringModel, mitigation: InferenceMitigation) -> None:
    assert "effusion" not in repr(run(model, mitigation, PROMPTS[:1]))
