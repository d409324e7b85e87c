"""Every option of the module trains what it says, and resumes to the same weights."""

from __future__ import annotations

import builtins
import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from test_module import SaveAt, fit, loader, module_of, same, state_of, trainer_of

from cxrguard.diffusion.loading import PipelineParts
from cxrguard.diffusion.module import DiffusionModule
from cxrguard.errors import CxrguardError

OPTIONS: dict[str, dict[str, Any]] = {
    "lora": {"unet": "lora", "lora_rank": 2},
    "lora of both": {"unet": "lora", "text_encoder": "lora", "lora_rank": 2, "ema_decay": 0.9},
    "text encoder alone": {"unet": "frozen", "text_encoder": "full"},
    "attention": {"unet": "attention"},
    "norms": {"unet": "norms"},
    "biases": {"unet": "biases", "ema_decay": 0.9},
    "own": {"unet": ["^conv_out"]},
    "weighed": {"min_snr_gamma": 5.0, "offset_noise": 0.1},
    "checkpointed": {"gradient_checkpointing": True},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_only_what_is_asked_for_changes_is_saved_and_resumes(parts: PipelineParts, tmp_path: Path, name: str) -> None:
    fresh = copy.deepcopy(parts)
    module = module_of(parts, **OPTIONS[name])
    asked = {n for n, p in module.named_parameters() if p.requires_grad}
    before = state_of(module)
    fit(module, 4, callbacks=[SaveAt(2, tmp_path / "a.ckpt")])
    changed = {n for n, value in state_of(module).items() if not torch.equal(value, before[n])}
    assert changed and changed <= asked
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == asked

    resumed = module_of(fresh, **OPTIONS[name])
    trainer_of(4).fit(resumed, loader(fresh), ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert same(state_of(resumed), state_of(module))
    if module.ema and resumed.ema:
        assert all(torch.equal(a, b) for a, b in zip(module.ema.shadow_params, resumed.ema.shadow_params, strict=True))


def test_a_checkpoint_of_other_parts_is_refused(parts: PipelineParts, tmp_path: Path) -> None:
    other = copy.deepcopy(parts)
    fit(module_of(parts, unet="norms"), 2, callbacks=[SaveAt(2, tmp_path / "a.ckpt")])
    with pytest.raises(CxrguardError, match="written with other parts in training"):
        trainer_of(4).fit(module_of(other, unet="attention"), loader(other), ckpt_path=tmp_path / "a.ckpt", weights_only=True)


def test_a_checkpoint_without_an_average_is_refused(parts: PipelineParts, tmp_path: Path) -> None:
    other = copy.deepcopy(parts)
    fit(module_of(parts), 2, callbacks=[SaveAt(2, tmp_path / "a.ckpt")])
    with pytest.raises(CxrguardError, match="holds no averaged weights; set model.module.ema_decay=0"):
        trainer_of(4).fit(module_of(other, ema_decay=0.9), loader(other), ckpt_path=tmp_path / "a.ckpt", weights_only=True)


def test_a_trained_text_encoder_has_no_dropout(parts: PipelineParts) -> None:
    module = module_of(parts, text_encoder="full")
    fit(module, 2)
    module.train()
    assert not any(m.training for m in parts.text_encoder.modules()) and parts.unet.training


def test_checkpointing_compiling_and_accumulating_change_nothing(parts: PipelineParts) -> None:
    """Weights equal those of the plain run to the rounding of other orders of summation."""
    copies = [copy.deepcopy(parts) for _ in range(3)]
    before = state_of(module_of(copy.deepcopy(parts)))
    plain = module_of(parts)
    fit(plain, 2)
    others = [module_of(copies[0], gradient_checkpointing=True), module_of(copies[1], compile=True), module_of(copies[2])]
    # the default backend compiles for minutes; this one goes through the same capture
    others[1]._compiled = (torch.compile(copies[1].unet, backend="aot_eager"),)
    fit(others[0], 2)
    fit(others[1], 2)
    trainer_of(2, accumulate_grad_batches=3).fit(others[2], loader(copies[2], batch_size=1))
    expected = state_of(plain)
    moves = [expected[n] - before[n] for n in expected]
    for other in others:
        got = state_of(other)
        assert got.keys() == expected.keys()
        # Of all weights: where a gradient is near 0, Adam makes the rounding of another order of summation as large as a part of a step.
        difference, moved = (torch.cat([x.flatten() for x in xs]).norm() for xs in ([got[n] - expected[n] for n in got], moves))
        assert float(difference / moved) < 0.01
    losses = [float(m.losses(next(iter(loader(m.parts))), 0).mean().detach()) for m in (plain, *others)]
    assert losses[1:] == pytest.approx([losses[0]] * 3, rel=1e-3)


def test_the_weight_by_timestep_counts_while_training_only(parts: PipelineParts) -> None:
    weighed = module_of(parts, min_snr_gamma=1.0, caption_dropout=0.0)
    batch = next(iter(loader(parts)))
    weighed.train()
    small = weighed.losses(batch, 0)
    weighed.min_snr_gamma = 0.0
    assert bool((small < weighed.losses(batch, 0)).any())
    heldout = weighed.heldout_loss([batch])
    weighed.min_snr_gamma, weighed.offset_noise = 1.0, 0.5
    assert weighed.heldout_loss([batch]) == heldout


def test_a_loss_that_is_not_finite_ends_the_run(parts: PipelineParts) -> None:
    with torch.no_grad():
        next(iter(parts.unet.parameters())).fill_(float("nan"))
    with pytest.raises(CxrguardError, match="training loss is not finite at step 0.*lower model.module.learning_rate"):
        fit(module_of(parts), 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unet": "frozen"}, "nothing is trained"),
        ({"unet": "everything"}, "model.module.unet=everything: is none of"),
        ({"optimizer": "sgd"}, "model.module.optimizer=sgd: must be one of adamw, adamw_8bit"),
    ],
)
def test_settings_that_mean_nothing(parts: PipelineParts, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CxrguardError, match=message):
        DiffusionModule(parts, **settings).configure_optimizers()


def test_eight_bits_without_their_package(parts: PipelineParts, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "bitsandbytes":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CxrguardError, match=r"adamw_8bit needs bitsandbytes; pip install 'cxrguard\[8bit\]'"):
        DiffusionModule(parts, optimizer="adamw_8bit").configure_optimizers()
