"""Recipe, part 2, of the shipped base model: tokenizer, text encoder and UNet on phantoms only (``make base-model``).

Uses the project's own module and trainer; the text encoder is trained with the UNet here and frozen afterwards.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from cxrguard.data import prompt_form
from cxrguard.data.phantom import PhantomReader
from cxrguard.diffusion.encoding import encode_images, tokenize
from cxrguard.diffusion.export import export_pipeline
from cxrguard.diffusion.loading import PipelineParts
from cxrguard.diffusion.module import DiffusionModule

LENGTH, WIDTH = 77, 128
_LABELS = (
    "Atelectasis Cardiomegaly Effusion Infiltration Mass Nodule Pneumonia Pneumothorax Consolidation Edema Emphysema Fibrosis "
    "Pleural Thickening Hernia No Finding Portable AP PA chest radiograph Note of a year old woman man frontal view"
)


def train_tokenizer(prompts: list[str], directory: Path) -> CLIPTokenizer:
    """A byte-level BPE of CLIP's kind on project-made text; any text can be encoded, nothing is unknown."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix="", unk_token="<|endoftext|>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_regex(), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=1600,
        min_frequency=1,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    # Every vocabulary word is repeated, so that it becomes one token and own tails stay short.
    bpe.train_from_iterator([*prompts, *(_vocabulary() * 20)], trainer)
    directory.mkdir(parents=True, exist_ok=True)
    vocab_file, merges_file = bpe.model.save(str(directory))
    import json

    vocab = _with_byte_words(json.loads(Path(vocab_file).read_text()))
    merges = [tuple(line.split()) for line in Path(merges_file).read_text().splitlines() if line and not line.startswith("#")]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH)


def _vocabulary() -> list[str]:
    pools = (prompt_form.LEADS, prompt_form.CLINICAL_TAILS, prompt_form.QUALITIES, prompt_form.STRUCTURES, prompt_form.PLACES)
    return [*(text for pool in pools for text in pool), *_LABELS.split()]


def _regex() -> Any:
    from tokenizers import Regex

    return Regex(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def _with_byte_words(vocab: dict[str, int]) -> dict[str, int]:
    """Add each byte as a word end of its own, so that no text falls back to the unknown token."""
    for byte in pre_tokenizers.ByteLevel.alphabet():
        for piece in (byte, byte + "</w>"):
            vocab.setdefault(piece, len(vocab))
    return vocab


def build_parts(vae: AutoencoderKL, tokenizer: CLIPTokenizer, seed: int) -> PipelineParts:
    """Untrained text encoder and UNet around a trained VAE."""
    torch.manual_seed(seed)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 128),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    scheduler = DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction", clip_sample=False
    )
    text_encoder = CLIPTextModel(text)
    # At CLIP's own 0.02 the words hardly change the hidden states of an encoder this small; words that no phantom
    # report has would all look alike.
    torch.nn.init.normal_(text_encoder.get_input_embeddings().weight, std=0.2)
    return PipelineParts(unet, vae, text_encoder, tokenizer, scheduler)


class _Phantoms(Dataset[dict[str, Tensor]]):
    def __init__(self, latents: Tensor, input_ids: Tensor) -> None:
        self.latents, self.input_ids = latents, input_ids

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {
            "latents": self.latents[index],
            "input_ids": self.input_ids[index],
            "sample_ids": torch.tensor(index),
            "draws": torch.tensor(0),
        }


class _Clock(pl.Callback):
    """Stops after ``minutes``, the rate falling to a tenth on the way, and prints where it is."""

    def __init__(self, minutes: float, learning_rate: float) -> None:
        self.seconds, self.learning_rate, self.start, self.mean = minutes * 60, learning_rate, time.time(), 1.0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        share = (time.time() - self.start) / self.seconds
        self.mean = 0.99 * self.mean + 0.01 * float(outputs["loss"])
        trainer.optimizers[0].param_groups[0]["lr"] = self.learning_rate * min(1.0, trainer.global_step / 100) * max(1 - 0.9 * share, 0.1)
        if trainer.global_step % 200 == 0:
            print(f"step {trainer.global_step} loss {self.mean:.4f} {share:.0%}", flush=True)
        trainer.should_stop = share >= 1


def main() -> None:
    """Train on phantoms and save fp16 safetensors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", type=Path, default=Path("outputs/base_model/vae"))
    parser.add_argument("--out", type=Path, default=Path("outputs/base_model/tiny"))
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--patients", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    records, _ = PhantomReader(n_patients=args.patients, seed=1).read()
    tokenizer = train_tokenizer([r.prompt for r in records[:3000]], args.out / "work")
    parts = build_parts(AutoencoderKL.from_pretrained(args.vae, torch_dtype=torch.float32), tokenizer, args.seed)
    pixels = torch.stack([torch.from_numpy(r.pixels) for r in records if r.pixels is not None]).float()[:, None] / 127.5 - 1
    latents = encode_images(parts, pixels.expand(-1, 3, -1, -1))
    data = _Phantoms(latents, tokenize(tokenizer, [r.prompt for r in records]))
    module = DiffusionModule(parts, learning_rate=1e-3, ema_decay=0.999, text_encoder="full", warmup_steps=1, seed=args.seed)
    loader = DataLoader(data, batch_size=32, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(args.seed))
    trainer = pl.Trainer(
        max_epochs=-1,
        accelerator="cpu",
        precision="32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        gradient_clip_val=1.0,
        callbacks=[_Clock(args.minutes, 1e-3)],
    )
    trainer.fit(module, loader)
    with module.judged():
        for part in (parts.unet, parts.text_encoder, parts.vae):
            part.half()
        export_pipeline(parts, args.out)


if __name__ == "__main__":
    main()
