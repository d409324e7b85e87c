"""DP-SGD: clipping against a loop over samples, the noise's size, ε against the accountant's, batches drawn by chance alone."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from test_module import Samples, fit, loader, module_of
from torch.utils.data import default_collate

from callbacks.checks import check_privacy
from callbacks.privacy import PrivacyCallback
from cxrguard.data.batches import CachedSamples, GatedCollate, PoissonBatches
from cxrguard.diffusion.loading import PipelineParts
from cxrguard.diffusion.module import DiffusionModule
from cxrguard.diffusion.private import PrivacySettings, PrivateTraining
from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.sanitizer import PromptSanitizer

opacus = pytest.importorskip("opacus")
CLIP = 0.02


def private_module(parts: PipelineParts, noise: float = 1.0, clip: float = CLIP) -> tuple[DiffusionModule, PrivateTraining]:
    module = module_of(parts, unet="lora", caption_dropout=0.0)
    with torch.no_grad():
        for i, p in enumerate(module.trainable()):  # B begins at 0, and then A has no gradient
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(i)) * 0.1)
    module.private = PrivateTraining(PrivacySettings(noise, clip), n_showings=12, batch_size=3, secret=7)
    module.private.attach(module.unet)
    return module, module.private


def step(module: DiffusionModule, batch: dict[str, torch.Tensor], number: int = 0) -> list[torch.Tensor]:
    """The gradients that the optimizer is given."""
    assert module.private
    optimizer = module.private.optimizer(torch.optim.SGD(module.trainable(), lr=0.0))
    optimizer.zero_grad()
    module.train()
    with module.private.step(number):
        losses, _ = module._losses(batch, 0)
        (losses * batch.get("weights", 1.0)).mean().backward()
        optimizer.step()
    return [p.grad.clone() for p in module.trainable() if p.grad is not None]


def batch_of(parts: PipelineParts, rows: list[int]) -> dict[str, torch.Tensor]:
    samples = Samples(parts)
    return default_collate([samples[i] for i in rows])


def naive(module: DiffusionModule, batch: dict[str, torch.Tensor], clip: float) -> tuple[list[torch.Tensor], int]:
    """A loop: each sample's own gradient, scaled to the norm, summed, over the mean batch size of 3; how many were clipped."""
    total = [torch.zeros_like(p) for p in module.trainable()]
    clipped = 0
    module.train()
    for i in range(len(batch["latents"])):
        losses, _ = module._losses({name: x[i : i + 1] for name, x in batch.items()}, 0)
        own = torch.autograd.grad(losses.sum(), module.trainable())
        norm = torch.cat([g.flatten() for g in own]).norm()
        clipped += int(norm > clip)
        total = [t + g * min(1.0, clip / float(norm)) for t, g in zip(total, own, strict=True)]
    return [t / 3 for t in total], clipped


def test_gradients_are_clipped_sample_by_sample(parts: PipelineParts) -> None:
    plain = module_of(copy.deepcopy(parts), unet="lora", caption_dropout=0.0)
    module, _ = private_module(parts, noise=1e-12)
    plain.load_state_dict(module.state_dict(), strict=False)
    batch = batch_of(parts, [0, 1, 2, 3, 4])  # more than the mean
    norms = []
    for clip in (1e3, CLIP):
        want, clipped = naive(plain, batch, clip)
        norms.append(clipped)
        assert module.private
        module.private.settings = PrivacySettings(1e-12, clip)
        for got, expected in zip(step(module, batch), want, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()) + 1e-9)
    assert norms[0] == 0 and norms[1] > 0


def test_noise_has_its_size_and_is_that_of_the_secret_and_the_step(parts: PipelineParts) -> None:
    module, private = private_module(parts, noise=2.0)
    nothing = batch_of(parts, [0]) | {"weights": torch.zeros(1)}
    first, again, later = (torch.cat([g.flatten() for g in step(module, nothing, n)]) for n in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, later)
    assert float(first.std()) == pytest.approx(2.0 * CLIP / 3, rel=0.1) and abs(float(first.mean())) < 2e-3
    private.secret = 8
    assert not torch.equal(torch.cat([g.flatten() for g in step(module, nothing, 5)]), first)


def test_epsilon_is_the_accountants_and_survives_a_resume(parts: PipelineParts) -> None:
    module, private = private_module(parts, noise=1.3)
    trainer = fit(module, steps=4)
    assert trainer.global_step == private.steps == 4
    accountant = opacus.accountants.RDPAccountant()
    accountant.history = [(1.3, 3 / 12, 4)]
    told = private.summary()
    assert told["epsilon"] == pytest.approx(accountant.get_epsilon(1e-5)) and told["epsilon"] > 0
    assert (told["sample_rate"], told["steps"], told["delta"]) == (0.25, 4, 1e-5)
    callback = PrivacyCallback(private.settings)
    callback.attach(12, 3, 7)
    callback.load_state_dict(private.state_dict())
    assert callback.summary() == told
    callback.on_train_start(trainer, module)
    fresh = PrivacyCallback(private.settings)
    fresh.attach(12, 3, 7)
    with pytest.raises(CxrguardError, match="4 steps were done, but 0 of them privately"):
        fresh.on_train_start(trainer, module)
    assert PrivacyCallback().summary() is None and PrivacyCallback().state_dict() == {}


def test_outside_of_steps_and_after_training_the_model_is_as_any_other(parts: PipelineParts) -> None:
    """A detector that takes gradients, then what is exported."""
    module, private = private_module(parts)
    batch = batch_of(parts, [0, 1])
    module.train()
    module._losses(batch, 0)[0].mean().backward()
    assert all(getattr(p, "grad_sample", None) is None for p in module.trainable())
    step(module, batch)
    private.detach()
    assert not any(hasattr(p, "grad_sample") for p in module.trainable())
    assert not any(m._forward_hooks or m._backward_hooks for m in module.unet.modules())


def test_the_weights_move_and_the_schedule_runs(parts: PipelineParts) -> None:
    module, _ = private_module(parts)
    before = [p.detach().clone() for p in module.trainable()]
    trainer = fit(module, steps=2, gradient_clip_val=1.0)
    assert all(not torch.equal(a, b) for a, b in zip(before, module.trainable(), strict=True))
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == 2
    assert loader(parts).batch_size == 3


def samples_of(times: list[int]) -> CachedSamples:
    n = len(times)
    return CachedSamples(torch.arange(float(n))[:, None, None, None], torch.zeros(n, 2, 3), ["Clear."] * n, times)


def test_each_step_draws_each_showing_by_itself_with_one_probability() -> None:
    samples = samples_of([1] * 30 + [5] * 2)
    batches = PoissonBatches(samples, batch_size=8, secret=3)
    counts, sizes, draws = Counter[int](), [], Counter[tuple[int, int]]()
    for epoch in range(200):
        batches.set_epoch(epoch)
        drawn = list(batches)
        assert len(drawn) == len(batches) == 5
        for indices in drawn:
            sizes.append(len(indices))
            counts.update(i % 40 for i in indices)
        pairs = [(int(s["sample_ids"]), int(s["draws"])) for indices in drawn for s in map(samples.__getitem__, indices)]
        assert len(set(pairs)) == len(pairs), "no noise comes twice in an epoch"
        draws.update(pairs)
    mean, variance = torch.tensor(sizes).double().mean(), torch.tensor(sizes).double().var()
    assert float(mean) == pytest.approx(8, abs=0.3) and float(variance) == pytest.approx(40 * 0.2 * 0.8, rel=0.15)
    assert all(150 < count < 250 for count in counts.values()) and len(counts) == 40
    batches.set_epoch(3)
    assert list(batches) == list(batches) != list(PoissonBatches(samples, 8, secret=4))


def test_a_batch_of_none_is_one_sample_without_weight() -> None:
    samples = samples_of([1, 1, 1])
    batch = GatedCollate(samples, PromptSanitizer(["auto"], action="off"))([])
    assert batch["weights"].tolist() == [0.0] and batch["latents"].shape[0] == 1


def config(**changes: Any) -> dict[str, Any]:
    module = {"unet": "lora", "text_encoder": "frozen", "compile": False, "gradient_checkpointing": False}
    trainer = {"accumulate_grad_batches": 1, "precision": "32-true", "devices": 1}
    guard = {"dp": {"delta": 1e-5}, "captions": {"variants": 1}, "repeats": {"images": "off", "prompts": "off"}} | changes.pop("guard", {})
    return {"guard": guard, "model": {"module": module | changes.pop("module", {})}, "trainer": trainer | changes}


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"module": {"unet": "full"}}, "model.module.unet=lora, not full"),
        ({"module": {"text_encoder": "lora"}}, "model.module.text_encoder=frozen"),
        ({"module": {"gradient_checkpointing": True}}, "model.module.gradient_checkpointing=False"),
        ({"guard": {"captions": {"variants": 4}}}, "guard.captions.variants=1, not 4"),
        ({"guard": {"repeats": {"images": "near", "prompts": "off"}}}, "guard.repeats.images=off, not near"),
        ({"accumulate_grad_batches": 4}, "trainer.accumulate_grad_batches=1, not 4"),
        ({"devices": 2}, "trainer.devices=1"),
        ({"precision": "bf16-mixed"}, "trainer.precision=32-true"),
    ],
)
def test_what_it_cannot_go_with_is_told(changes: dict[str, Any], remedy: str) -> None:
    check_privacy(config())
    with pytest.raises(CxrguardError, match=remedy):
        check_privacy(config(**changes))
    check_privacy(config(**changes) | {"guard": {"dp": None}})


def test_one_process_is_asked_for_by_number() -> None:
    with pytest.raises(CxrguardError, match="trainer.devices=1, not auto"):
        check_privacy(config(devices="auto"))


def test_settings_are_checked() -> None:
    with pytest.raises(CxrguardError, match=r"guard\.dp needs"):
        PrivacySettings(noise_multiplier=0)
    with pytest.raises(CxrguardError, match="must be below 1 / 200"):
        PrivateTraining(PrivacySettings(delta=0.01), 200, 16, 0)


def test_without_opacus_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opacus.accountants", None)
    with pytest.raises(CxrguardError, match=r"guard=dp needs opacus; pip install 'cxrguard\[dp\]'"):
        PrivateTraining(PrivacySettings(), 200, 16, 0)
