"""The LightningModule: wiring only. Formulas live in ``objective``, parts in ``loading``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.diffusion.encoding import encode_prompts
from cxrguard.diffusion.loading import PipelineParts
from cxrguard.diffusion.objective import (
    add_noise,
    draw_batch,
    drop_captions,
    gather_alpha_bar,
    per_sample_loss,
    rate_factor,
    training_target,
)

HELDOUT_DRAWS = 4
"""Noises that the held-out loss is taken over."""


class DiffusionModule(pl.LightningModule):
    """Fine-tunes the UNet of a text-to-image latent diffusion pipeline.

    The VAE (and the text encoder, unless it is trained) are frozen and no submodules: they are neither in checkpoints
    nor touched by the averaging of weights.

    Args:
        parts: the loaded pipeline.
        learning_rate: peak rate of AdamW.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up.
        decay_steps: the step at which a cosine has brought the rate to 0; 0 keeps it constant after the warm-up.
        caption_dropout: share of captions replaced by the empty prompt (for classifier-free guidance).
        ema_decay: decay of the averaged weights; 0 keeps none, and the raw weights are judged and exported.
        train_text_encoder: train the text encoder too; batches must then hold ``input_ids``.
        channels_last: memory format of the UNet, faster on CPUs.
        seed: of all that chance decides while training.

    """

    def __init__(
        self,
        parts: PipelineParts,
        *,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_steps: int = 50,
        decay_steps: int = 0,
        caption_dropout: float = 0.1,
        ema_decay: float = 0.0,
        train_text_encoder: bool = False,
        channels_last: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.unet = parts.unet.train()
        if channels_last:
            self.unet.to(memory_format=torch.channels_last)
        if train_text_encoder:
            self.text_encoder = parts.text_encoder.train()
        # A tuple, so that Lightning does not register the frozen parts as submodules.
        self._frozen = (parts,)
        parts.vae.requires_grad_(False).eval()
        if not train_text_encoder:
            parts.text_encoder.requires_grad_(False).eval()
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup_steps, self.decay_steps = warmup_steps, decay_steps
        self.caption_dropout, self.seed, self.train_text_encoder = caption_dropout, seed, train_text_encoder
        self.alphas_cumprod: Tensor
        self.uncond_hidden_states: Tensor
        self.register_buffer("alphas_cumprod", parts.alphas_cumprod.clone(), persistent=False)
        self.register_buffer("uncond_hidden_states", encode_prompts(parts, [""]), persistent=False)
        self.ema = EMAModel(self.trainable(), decay=ema_decay, use_ema_warmup=True) if ema_decay else None

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
        """Per-sample losses ``[B]`` of a batch, chance as a function of (seed, epoch, sample id, draw)."""
        latents = batch["latents"]
        draws = draw_batch(
            self.seed,
            epoch,
            batch["sample_ids"].tolist(),
            batch["draws"].tolist(),
            (latents.shape[1], latents.shape[2], latents.shape[3]),
            len(self.alphas_cumprod),
            self.caption_dropout if self.training else 0.0,
        )
        noise, timesteps, drop = (x.to(self.device) for x in (draws.noise, draws.timesteps, draws.drop))
        alpha_bar = gather_alpha_bar(self.alphas_cumprod, timesteps)
        states = drop_captions(self._states(batch), self._uncond(), drop)
        prediction = self.denoiser().predict(add_noise(latents, noise, alpha_bar), timesteps, states)
        return per_sample_loss(prediction, training_target(self.parts.prediction_type, latents, noise, alpha_bar))

    def _states(self, batch: dict[str, Tensor]) -> Tensor:
        if self.train_text_encoder:
            states: Tensor = self.text_encoder(batch["input_ids"])[0]
            return states
        return batch["encoder_hidden_states"]

    def _uncond(self) -> Tensor:
        if not self.train_text_encoder:
            return self.uncond_hidden_states
        ids = self.parts.tokenizer("", padding="max_length", max_length=self.parts.tokenizer.model_max_length, return_tensors="pt")
        states: Tensor = self.text_encoder(ids.input_ids.to(self.device))[0]
        return states

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Mean of the per-sample losses."""
        loss = self.losses(batch, self.current_epoch).mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["latents"]))
        return loss

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
        super().optimizer_step(*args, **kwargs)
        if self.ema:
            self.ema.to(self.device)
            self.ema.step(self.trainable())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the averaged weights beside the raw ones."""
        if self.ema:
            checkpoint["ema"] = self.ema.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the averaged weights."""
        if self.ema and "ema" in checkpoint:
            self.ema.load_state_dict(checkpoint["ema"])

    def configure_optimizers(self) -> Any:
        """AdamW with linear warm-up and, where asked for, a cosine to 0; stepped every batch."""
        optimizer = torch.optim.AdamW(self.trainable(), lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(rate_factor, warmup=self.warmup_steps, decay=self.decay_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
