"""The parts of a tiny pipeline in places of their own, laid out as RadEdit's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from tiny_unet import tiny_unet
from transformers import BertConfig, BertForMaskedLM

from cxrguard.data.phantom import PhantomReader
from cxrguard.diffusion.loading import load_pipeline
from cxrguard.errors import ModelError

SCHEDULER = {"beta_schedule": "linear", "prediction_type": "epsilon", "clip_sample": False, "steps_offset": 1}


def save_unet(directory: Path, *, channels: int = 4, text_width: int = 32, **values: Any) -> str:
    torch.manual_seed(1)
    unet = tiny_unet(channels, text_width=text_width)
    unet.register_to_config(**values)
    unet.save_pretrained(directory / "unet")
    return f"{directory}::unet"


def save_vae(directory: Path, *, channels: int = 4, blocks: int = 4) -> str:
    """An AutoencoderKL with the scaling of SDXL's; 2^(blocks − 1) pixels become one latent."""
    torch.manual_seed(2)
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(8,) * blocks,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.13025,
    ).save_pretrained(directory)
    return str(directory)


def wordpiece() -> list[str]:
    """A vocabulary that covers the phantoms' prompts."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    text = " ".join(r.prompt for r in PhantomReader(n_patients=20).read()[0]).lower()
    words = sorted(set("".join(c if c.isalnum() else " " for c in text).split()) - set(letters))
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,:;-/", *letters, *(f"##{c}" for c in letters), *words]


def save_text(directory: Path, *, width: int = 32) -> str:
    """A BERT as BioViL-T has it: a masked language model's weights without a pooler, and a vocabulary file."""
    vocabulary = wordpiece()
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=160,
    )
    BertForMaskedLM(config).save_pretrained(directory)
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (directory / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer"}))
    return str(directory)


def save_parts(root: Path) -> dict[str, Any]:
    """All of them, as ``model.source`` names them."""
    return {
        "unet": save_unet(root / "radedit"),
        "vae": save_vae(root / "vae"),
        "text_encoder": save_text(root / "text"),
        "tokenizer": None,
        "scheduler": dict(SCHEDULER),
        "max_length": 128,
    }


def refusal(source: dict[str, Any]) -> str:
    """The message with which these parts are refused."""
    with pytest.raises(ModelError) as caught:
        load_pipeline(source)
    return str(caught.value)


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
