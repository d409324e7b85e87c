"""The wiring: what is trained, judged, averaged, saved and exported."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cxrguard.data.batches import EpochSampler, ResumableLoader
from cxrguard.diffusion.encoding import encode_prompts, tokenize
from cxrguard.diffusion.export import export_pipeline
from cxrguard.diffusion.loading import PipelineParts, load_pipeline
from cxrguard.diffusion.module import DiffusionModule

State = dict[str, Tensor]
PROMPTS = ["PA view.", "Small effusion.", "No pneumothorax.", "AP view. Left nodule.", "Edema.", "Clear."]


class Samples(Dataset[dict[str, Tensor]]):
    """Six samples, fixed."""

    def __init__(self, parts: PipelineParts) -> None:
        generator = torch.Generator().manual_seed(0)
        self.latents = torch.randn(6, parts.unet.config.in_channels, 8, 8, generator=generator)
        self.states, self.ids = encode_prompts(parts, PROMPTS), tokenize(parts.tokenizer, PROMPTS)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        rows = {"latents": self.latents[i], "encoder_hidden_states": self.states[i], "input_ids": self.ids[i]}
        return rows | {"sample_ids": torch.tensor(i), "draws": torch.tensor(0)}


def module_of(parts: PipelineParts, **settings: Any) -> DiffusionModule:
    return DiffusionModule(parts, **({"learning_rate": 1e-2, "warmup_steps": 1} | settings))


def trainer_of(steps: int, **settings: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(max_steps=steps, max_epochs=-1, accelerator="cpu", **(quiet | settings))


def loader(parts: PipelineParts, batch_size: int = 3) -> DataLoader[dict[str, Tensor]]:
    return DataLoader(Samples(parts), batch_size)


def fit(module: DiffusionModule, steps: int = 3, **settings: Any) -> pl.Trainer:
    trainer = trainer_of(steps, **settings)
    trainer.fit(module, loader(module.parts))
    return trainer


def state_of(module: torch.nn.Module) -> State:
    return {k: v.detach().clone() for k, v in module.state_dict().items()}


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_only_the_unet_is_trained_and_saved(parts: PipelineParts) -> None:
    frozen = [state_of(parts.vae), state_of(parts.text_encoder)]
    module = module_of(parts, ema_decay=0.9)
    before = state_of(module)
    assert {k.split(".")[0] for k in before} == {"unet"}
    assert {id(p) for p in module.trainable()} == {id(p) for p in parts.unet.parameters()}
    fit(module)
    assert same(frozen[0], state_of(parts.vae)) and same(frozen[1], state_of(parts.text_encoder))
    assert not parts.vae.training and not parts.text_encoder.training
    assert not any(p.requires_grad or p.grad is not None for part in (parts.vae, parts.text_encoder) for p in part.parameters())
    changed = [k for k, v in state_of(module).items() if not torch.equal(v, before[k])]
    assert len(changed) > 0.9 * len(before)


def test_the_text_encoder_is_trained_when_asked(parts: PipelineParts) -> None:
    module = module_of(parts, text_encoder="full")
    before = state_of(parts.text_encoder)
    assert {k.split(".")[0] for k in state_of(module)} == {"unet", "text_encoder"}
    fit(module, 2)
    assert not same(before, state_of(parts.text_encoder))


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("training", [True, False])
def test_judged_puts_mode_and_weights_back_bit_by_bit(parts: PipelineParts, ema_decay: float, training: bool) -> None:
    module = module_of(parts, ema_decay=ema_decay)
    fit(module)
    module.train(training)
    raw = state_of(module.unet)
    with module.judged() as denoiser:
        assert denoiser.unet is module.unet is parts.unet and not module.unet.training
        assert denoiser.prediction_type == parts.prediction_type
        assert same(raw, state_of(module.unet)) == (ema_decay == 0)
    assert same(raw, state_of(module.unet)) and module.unet.training is training
    with pytest.raises(KeyError), module.judged():
        raise KeyError
    assert same(raw, state_of(module.unet)) and module.unet.training is training


def test_average_against_a_loop(parts: PipelineParts) -> None:
    module = module_of(parts, ema_decay=0.6)
    weights = [[p.detach().clone() for p in module.trainable()]]

    class Record(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            weights.append([p.detach().clone() for p in module.trainable()])

    fit(module, 5, callbacks=[Record()])
    average = weights[0]
    for step, current in enumerate(weights[1:]):  # warm-up as in Crowson's k-diffusion: 1 - (1 + step)^(-2/3)
        decay = min(1 - (1 + step) ** (-2 / 3), 0.6)
        average = [decay * a + (1 - decay) * c for a, c in zip(average, current, strict=True)]
    with module.judged():
        assert all(torch.allclose(a, p, atol=1e-6) for a, p in zip(average, module.trainable(), strict=True))
        assert not all(torch.equal(s, p) for s, p in zip(weights[0], module.trainable(), strict=True))


@pytest.mark.parametrize(("ema_decay", "weights"), [(0.9, "ema"), (0.0, "raw")])
def test_the_export_has_the_judged_weights(parts: PipelineParts, tmp_path: Path, ema_decay: float, weights: str) -> None:
    module = module_of(parts, ema_decay=ema_decay)
    fit(module)
    assert module.weights == weights
    with module.judged():
        judged = state_of(parts.unet)
        export_pipeline(parts, tmp_path / "pipeline")
    exported = state_of(load_pipeline(str(tmp_path / "pipeline")).unet)
    assert same(exported, judged) and same(exported, state_of(module.unet)) == (weights == "raw")


class SaveAt(pl.Callback):
    """Saves after a batch, as ModelCheckpoint does with ``every_n_train_steps``."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize(("ema_decay", "step"), [(0.0, 1), (0.9, 1), (0.9, 2), (0.9, 3)])
def test_checkpoints_load_with_weights_only_and_a_resumed_run_is_the_same(
    parts: PipelineParts, tmp_path: Path, ema_decay: float, step: int
) -> None:
    """Two batches an epoch: saved within one, and at its end."""

    def run(steps: int, checkpoint: Path | None = None, **settings: Any) -> DiffusionModule:
        module = module_of(copy.deepcopy(parts), ema_decay=ema_decay)
        data = ResumableLoader(Samples(parts), 3, sampler=EpochSampler(6, 0))
        trainer_of(steps, **settings).fit(module, data, ckpt_path=checkpoint, weights_only=True)
        return module

    whole = run(4, callbacks=[SaveAt(step, tmp_path / "a.ckpt")])
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert {k.split(".")[0] for k in checkpoint["state_dict"]} == {"unet"} and ("ema" in checkpoint) == bool(ema_decay)
    resumed = run(4, tmp_path / "a.ckpt")
    assert same(state_of(resumed), state_of(whole))
    with resumed.judged(), whole.judged():
        assert same(state_of(resumed), state_of(whole))


def test_losses_do_not_depend_on_the_batch_and_probing_changes_nothing(parts: PipelineParts) -> None:
    module = module_of(parts, ema_decay=0.9)
    batch = next(iter(loader(parts, 6)))
    losses = module.losses(batch, 2)
    order = torch.tensor([4, 1, 0, 5, 2, 3])
    permuted = module.losses({k: v[order] for k, v in batch.items()}, 2)
    assert losses.shape == (6,) and torch.allclose(permuted, losses[order], rtol=1e-4)
    alone = module.losses({k: v[2:3] for k, v in batch.items()}, 2)
    assert torch.allclose(alone, losses[2:3], rtol=1e-4)
    module.heldout_loss([batch], draws=1)
    assert torch.equal(module.losses(batch, 2), losses) and not torch.allclose(module.losses(batch, 3), losses)


def test_loss_against_loops(parts: PipelineParts) -> None:
    from cxrguard.diffusion.objective import draw_batch

    module = module_of(parts, caption_dropout=0.5, seed=7)
    batch = next(iter(loader(parts, 6)))
    draws = draw_batch(7, 1, range(6), [0] * 6, tuple(batch["latents"].shape[1:]), 1000, 0.5)
    assert 0 < draws.drop.sum() < 6
    uncond = encode_prompts(parts, [""])
    want = []
    for i in range(6):
        t, x, e = draws.timesteps[i], batch["latents"][i], draws.noise[i]
        a = parts.alphas_cumprod[t]
        states = uncond if draws.drop[i] else batch["encoder_hidden_states"][i : i + 1]
        out = parts.unet((a**0.5 * x + (1 - a) ** 0.5 * e)[None], t, encoder_hidden_states=states).sample[0]
        target = e if parts.prediction_type == "epsilon" else a**0.5 * e - (1 - a) ** 0.5 * x
        want.append(((out - target) ** 2).mean().item())
    assert module.losses(batch, 1).tolist() == pytest.approx(want, rel=1e-4)


def test_heldout_loss_is_fixed_has_no_dropout_and_judges_the_average(parts: PipelineParts) -> None:
    module = module_of(parts, ema_decay=0.9, caption_dropout=1.0)
    fit(module)
    batches = list(loader(parts, 4))
    loss = module.heldout_loss(batches, draws=2)
    torch.manual_seed(123)
    assert module.heldout_loss(batches, draws=2) == loss and module.training
    assert module.heldout_loss(list(loader(parts, 1)), draws=2) == pytest.approx(loss, rel=1e-4)
    with module.judged(), torch.no_grad():
        module.training = False
        rows = [{**b, "draws": torch.full_like(b["draws"], d)} for b in batches for d in range(2)]
        want = torch.cat([module.losses(row, -1) for row in rows]).mean()
    assert loss == pytest.approx(float(want), rel=1e-5)
    no_text = [{**b, "encoder_hidden_states": encode_prompts(parts, [""]).expand_as(b["encoder_hidden_states"])} for b in batches]
    assert module.heldout_loss(no_text, draws=2) != loss


def test_warm_up(parts: PipelineParts) -> None:
    rates: list[float] = []

    class Record(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    fit(module_of(parts, learning_rate=1e-3, warmup_steps=4), 6, callbacks=[Record()])
    assert rates == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])
