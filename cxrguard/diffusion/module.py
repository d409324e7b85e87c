"""The LightningModule: wiring only. Formulas live in ``objective``, parts in ``loading``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.diffusion.encoding import encode_prompts, tokenize
from cxrguard.diffusion.gathering import of_everyone
from cxrguard.diffusion.loading import PipelineParts
from cxrguard.diffusion.objective import (
    Draws,
    add_noise,
    draw_batch,
    drop_captions,
    gather_alpha_bar,
    min_snr_weight,
    per_sample_loss,
    text_difference_norm,
    training_target,
)
from cxrguard.diffusion.optimizer import build_optimizer, with_schedule
from cxrguard.diffusion.private import PrivateTraining
from cxrguard.diffusion.trainable import make_trainable
from cxrguard.diffusion.trained_state import check_trained, keep_trained
from cxrguard.errors import CxrguardError
from cxrguard.mitigations.training.base import LossMitigation, Seen

HELDOUT_DRAWS = 4
"""Noises that the held-out loss is taken over."""

STEERING_EPOCH = -2
"""Sets the noise of steering samples apart from that of training (0 and up) and of held-out losses (−1)."""


class DiffusionModule(pl.LightningModule):
    """Fine-tunes the UNet of a text-to-image latent diffusion pipeline, and its text encoder where asked for.

    The VAE (and the text encoder, unless it is trained) are frozen and no submodules: they are neither in checkpoints
    nor touched by the averaging of weights. Of the UNet, checkpoints hold what is trained. A text
    encoder that is trained stays in eval mode: dropout would draw from the global state.

    Args:
        parts: the loaded pipeline.
        unet: what of it is trained; see :func:`~cxrguard.diffusion.trainable.make_trainable`.
        text_encoder: likewise; batches must then hold ``input_ids``.
        lora_rank: of the adapters where ``lora`` is asked for.
        lora_alpha: the adapters are scaled by alpha / rank.
        optimizer: ``adamw`` or ``adamw_8bit``.
        learning_rate: its peak rate.
        weight_decay: its decoupled weight decay.
        warmup_steps: linear warm-up.
        decay_steps: the step at which a cosine has brought the rate to 0; 0 keeps it constant after the warm-up.
        caption_dropout: share of captions replaced by the empty prompt (for classifier-free guidance).
        min_snr_gamma: γ of the loss's weight by timestep, 5 in the paper; 0 weighs all alike.
        offset_noise: standard deviation of the noise's shift, 0.1 is usual; 0 adds none.
        ema_decay: decay of the averaged weights; 0 keeps none, and the raw weights are judged and exported.
        channels_last: memory format of the UNet, faster on CPUs.
        gradient_checkpointing: compute the UNet's activations again instead of keeping them: less memory, more time.
        compile: train through ``torch.compile``; probes and sampling use the plain model.
        seed: of all that chance decides while training.

    Raises:
        CxrguardError: a setting names what is not there.

    """

    def __init__(
        self,
        parts: PipelineParts,
        *,
        unet: str | Sequence[str] = "full",
        text_encoder: str | Sequence[str] = "frozen",
        lora_rank: int = 8,
        lora_alpha: float = 8.0,
        optimizer: str = "adamw",
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_steps: int = 50,
        decay_steps: int = 0,
        caption_dropout: float = 0.1,
        min_snr_gamma: float = 0.0,
        offset_noise: float = 0.0,
        ema_decay: float = 0.0,
        channels_last: bool = True,
        gradient_checkpointing: bool = False,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        lora: dict[str, Any] = {"rank": lora_rank, "alpha": lora_alpha, "seed": seed}
        make_trainable(parts.unet, unet, "model.module.unet", **lora)
        make_trainable(parts.text_encoder, text_encoder, "model.module.text_encoder", **lora)
        self.train_text_encoder = text_encoder != "frozen"
        self.unet = parts.unet.train()
        if channels_last:
            self.unet.to(memory_format=torch.channels_last)
        if self.train_text_encoder:
            self.text_encoder = parts.text_encoder
        parts.text_encoder.eval()
        parts.vae.requires_grad_(False).eval()
        # Tuples, so that Lightning does not register the frozen parts, or the UNet twice, as submodules.
        self._frozen = (parts,)
        self._compiled = (torch.compile(self.unet),) if compile else (self.unet,)
        if gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.optimizer, self.learning_rate, self.weight_decay = optimizer, learning_rate, weight_decay
        self.warmup_steps, self.decay_steps = warmup_steps, decay_steps
        self.caption_dropout, self.min_snr_gamma, self.offset_noise, self.seed = caption_dropout, min_snr_gamma, offset_noise, seed
        self.strict_loading = False  # what is frozen is not in a checkpoint; on_load_checkpoint looks at what is
        self.alphas_cumprod: Tensor
        self.uncond_hidden_states: Tensor
        self.register_buffer("alphas_cumprod", parts.alphas_cumprod.clone(), persistent=False)
        self.register_buffer("uncond_hidden_states", encode_prompts(parts, [""]), persistent=False)
        if not self.trainable():
            raise CxrguardError("nothing is trained: model.module.unet and model.module.text_encoder are both frozen")
        self.ema = EMAModel(self.trainable(), decay=ema_decay, use_ema_warmup=True) if ema_decay else None
        self.mitigation: LossMitigation | None = None  # whoever sets it calibrates it
        self.private: PrivateTraining | None = None  # whoever sets it attaches it to the UNet

    def train(self, mode: bool = True) -> DiffusionModule:
        """As any module's, but for the text encoder."""
        super().train(mode)
        self.parts.text_encoder.eval()
        return self

    @property
    def parts(self) -> PipelineParts:
        """The pipeline; its UNet is the one in training."""
        return self._frozen[0]

    @property
    def weights(self) -> str:
        """Which weights are judged and exported: ``ema`` or ``raw``."""
        return "ema" if self.ema else "raw"

    def trainable(self) -> list[torch.nn.Parameter]:
        """The parameters that the optimizer changes."""
        return [p for p in self.parameters() if p.requires_grad]

    def denoiser(self) -> UNetDenoiser:
        """The UNet as the probes see it."""
        return UNetDenoiser(self.unet, self.alphas_cumprod, self.parts.prediction_type)

    @contextmanager
    def judged(self) -> Iterator[UNetDenoiser]:
        """The weights that would be exported, in eval mode; mode and raw weights are put back bit by bit."""
        training = self.unet.training
        if self.ema:
            self.ema.store(self.trainable())
            self.ema.copy_to(self.trainable())
        self.unet.eval()
        try:
            yield self.denoiser()
        finally:
            self.unet.train(training)
            if self.ema:
                self.ema.restore(self.trainable())

    def losses(self, batch: dict[str, Tensor], epoch: int) -> Tensor:
        """Per-sample losses ``[B]`` of a batch, chance as a function of (seed, epoch, sample id, draw).

        Weighted by timestep, and with offset noise, only while training: held-out losses compare over settings.
        """
        return self._losses(batch, epoch)[0]

    def _losses(self, batch: dict[str, Tensor], epoch: int) -> tuple[Tensor, Seen]:
        """The losses, and what a mitigation sees of them."""
        latents = batch["latents"]
        draws = self._draw(batch, epoch)
        noise, timesteps, drop = (x.to(self.device) for x in (draws.noise, draws.timesteps, draws.drop))
        alpha_bar = gather_alpha_bar(self.alphas_cumprod, timesteps)
        uncond = self._uncond()
        states = drop_captions(self._states(batch), uncond, drop)
        denoiser = UNetDenoiser(self._compiled[0], self.alphas_cumprod, self.parts.prediction_type) if self.training else self.denoiser()
        noisy = add_noise(latents, noise, alpha_bar)
        # torch 2.13 on CPUs crashes in the backward pass of a channels_last group_norm that is trained where its input is not.
        noisy.requires_grad_(self.training and torch.is_grad_enabled() and not self.unet.conv_in.weight.requires_grad)
        if self.private and self.training:
            states.requires_grad_()  # the hooks on keys and values warn where no input has a gradient
        prediction = denoiser.predict(noisy, timesteps, states)
        losses = per_sample_loss(prediction, training_target(self.parts.prediction_type, latents, noise, alpha_bar))
        norms = None
        if self.mitigation and self.mitigation.needs_text_noise_norm:
            with torch.no_grad():
                without = denoiser.predict(noisy, timesteps, uncond.expand_as(states))
            norms = text_difference_norm(prediction.detach(), without, alpha_bar, self.parts.prediction_type)
        seen = Seen(batch["sample_ids"], timesteps, losses.detach(), norms, batch.get("patient_ids"))
        if self.training and self.min_snr_gamma:
            losses = losses * min_snr_weight(alpha_bar, self.min_snr_gamma, self.parts.prediction_type)
        return losses, seen

    def _draw(self, batch: dict[str, Tensor], epoch: int) -> Draws:
        _, channels, height, width = batch["latents"].shape
        return draw_batch(
            self.seed,
            epoch,
            batch["sample_ids"].tolist(),
            batch["draws"].tolist(),
            (channels, height, width),
            len(self.alphas_cumprod),
            self.caption_dropout if self.training else 0.0,
            self.offset_noise if self.training else 0.0,
        )

    def _states(self, batch: dict[str, Tensor]) -> Tensor:
        if self.train_text_encoder:
            states: Tensor = self.text_encoder(batch["input_ids"])[0]
            return states
        return batch["encoder_hidden_states"]

    def _uncond(self) -> Tensor:
        if not self.train_text_encoder:
            return self.uncond_hidden_states
        states: Tensor = self.text_encoder(tokenize(self.parts.tokenizer, [""]).to(self.device))[0]
        return states

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Mean of the per-sample losses, each times its weight where there is a mitigation.

        A sample that is held back leaves the others' weights as they are: the mean is over the whole batch.

        Raises:
            CxrguardError: it is not finite.

        """
        losses, seen = self._losses(batch, self.current_epoch)
        weights = batch.get("weights", 1.0) * (1.0 if self.mitigation is None else self._weights(seen, self.mitigation))
        loss = (losses * weights).mean()
        if not torch.isfinite(loss):
            raise CxrguardError(
                f"the training loss is not finite at step {self.global_step}: the model has diverged; "
                "lower model.module.learning_rate, or train in 32-true precision"
            )
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["latents"]))
        return loss

    def _weights(self, seen: Seen, mitigation: LossMitigation) -> Tensor:
        mitigation.record(of_everyone(seen, self))
        return mitigation.weights(seen).to(seen.losses)

    @torch.no_grad()
    def steering_losses(self, batches: Iterable[dict[str, Tensor]], draws: Sequence[int]) -> Seen:
        """What a mitigation sees of samples that are never trained on: the weights in training, noise and timestep by ``draws``."""
        found = []
        for batch in batches:
            on_device = {name: value.to(self.device) for name, value in batch.items()}
            for draw in draws:
                found.append(self._losses({**on_device, "draws": torch.full_like(on_device["draws"], draw)}, STEERING_EPOCH)[1])
        return Seen.join(found)

    @torch.no_grad()
    def heldout_loss(self, batches: Iterable[dict[str, Tensor]], draws: int = HELDOUT_DRAWS) -> float:
        """Mean loss on held-out batches with the same noise every time, ``draws`` a sample; of the judged weights."""
        with self.judged():
            was_training, self.training = self.training, False
            losses = [
                self.losses({**{k: v.to(self.device) for k, v in batch.items()}, "draws": torch.full_like(batch["draws"], draw)}, -1)
                for batch in batches
                for draw in range(draws)
            ]
            self.training = was_training
        return float(torch.cat(losses).mean())

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then average: a probe after the batch sees the average that holds this step."""
        with self.private.step(self.global_step) if self.private else nullcontext():
            super().optimizer_step(*args, **kwargs)
        if self.ema:
            self.ema.to(self.device)
            self.ema.step(self.trainable())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is trained, raw and averaged; the frozen weights are the pipeline's."""
        keep_trained(checkpoint, self, self.ema)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the averaged weights.

        Raises:
            CxrguardError: the checkpoint is of other trained parts, or without averaged weights.

        """
        check_trained(checkpoint, self, self.ema)
        if self.ema:
            self.ema.load_state_dict(checkpoint["ema"])

    def configure_optimizers(self) -> Any:
        """AdamW with linear warm-up and, where asked for, a cosine to 0; stepped every batch."""
        fused = self._trainer is not None and self.trainer.precision == "32-true" and not self.private
        optimizer = build_optimizer(self.optimizer, self.trainable(), self.learning_rate, self.weight_decay, fused)
        optimizer = self.private.optimizer(optimizer) if self.private else optimizer
        return with_schedule(optimizer, self.warmup_steps, self.decay_steps)
