"""A pipeline put together from parts that lie in different places, as RadEdit is published."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import nn

from cxrguard.diffusion.loading import (
    FILES,
    PipelineParts,
    check_part,
    check_unet,
    read_json,
    resolve_source,
    training_schedule,
    without_place,
)
from cxrguard.diffusion.text_parts import check_code, load_text_encoder, load_tokenizer
from cxrguard.errors import ModelError

_KEYS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler", "max_length", "text_encoder_class", "trust_remote_code")
_CLASSES = {"unet": ("UNet2DConditionModel",), "vae": ("AutoencoderKL", "AutoencoderTiny")}


def load_assembled(parts: Mapping[str, Any], device: str = "cpu") -> PipelineParts:
    """Load each part in float32 from a place of its own: safetensors only, and custom code only on explicit opt-in.

    Args:
        parts: ``unet``, ``vae``, ``text_encoder`` and ``tokenizer`` (the text encoder's place where None), each a directory, a
            hub name or ``packaged:NAME``, with ``::subfolder`` where needed; UNet and VAE may be loaded modules.
            ``scheduler``: likewise a place, or a mapping of its config values. ``max_length``: tokens of a prompt.
            ``text_encoder_class``: the transformers class to load its weights as. ``trust_remote_code``: whether the text
            encoder's own code is run; with a class it is not.
        device: where to.

    Raises:
        ModelError: a part is not named or not found, its weights are pickled or do not fit its config, it asks for custom
            code that was not opted into, or the parts do not fit each other.

    """
    _check_keys(parts)
    class_name, trusted = parts.get("text_encoder_class"), parts.get("trust_remote_code") is True
    unet, vae = (_load_model(key, parts[key]) for key in ("unet", "vae"))
    encoder_at = _text_directory("text_encoder", str(parts["text_encoder"]), class_name, trusted)
    encoder = load_text_encoder(encoder_at, class_name, trust_remote_code=trusted)
    tokenizer_at = _text_directory("tokenizer", str(parts.get("tokenizer") or parts["text_encoder"]), class_name, trusted)
    tokenizer = load_tokenizer(tokenizer_at, encoder, parts.get("max_length"), trust_remote_code=trusted and not class_name)
    scheduler = _load_scheduler(parts["scheduler"])
    assembled = PipelineParts(unet.to(device), vae.to(device), encoder.to(device), tokenizer, scheduler)
    _check_fit(assembled)
    return assembled


def _check_keys(parts: Mapping[str, Any]) -> None:
    for name in parts:
        if name not in _KEYS:
            near = difflib.get_close_matches(str(name), _KEYS, 1)
            raise ModelError(f"model.source.{name}: no such part{f'; {near[0]} is meant?' if near else ''}; there are {', '.join(_KEYS)}")
    for name in ("unet", "vae", "text_encoder", "scheduler"):
        if parts.get(name) is None:
            raise ModelError(f"model.source.{name} is not set; give a directory, dir::subfolder or a hub name")
    length, trusted = parts.get("max_length"), parts.get("trust_remote_code", False)
    if not isinstance(trusted, bool):
        raise ModelError(f"model.source.trust_remote_code={trusted!r}: must be true or false")
    if length is not None and (not isinstance(length, int) or isinstance(length, bool)):
        raise ModelError(f"model.source.max_length={length!r}: must be a whole number of tokens")


def _directory(key: str, value: str, extra: tuple[str, ...] = ()) -> Path:
    """Where a part lies; of a hub repository only its own files are fetched."""
    source, _, subfolder = value.partition("::")
    patterns = [f"{subfolder}/{pattern}" if subfolder else pattern for pattern in (*FILES, *extra)]
    directory = resolve_source(source, f"model.source.{key}", "a directory", patterns) / subfolder
    if not directory.is_dir():
        raise ModelError(f"{directory}: no such directory; set model.source.{key} to the part's place, e.g. dir::subfolder")
    return directory


def _text_directory(key: str, value: str, class_name: str | None, trusted: bool) -> Path:
    directory = _directory(key, value, ("*.py",) if trusted and not class_name else ())
    check_code(directory, allowed=trusted or bool(class_name))
    if key == "text_encoder":
        _check_weights(key, directory)
    return directory


def _check_weights(key: str, directory: Path) -> None:
    check_part(directory, code_allowed=key == "text_encoder")
    if not list(directory.glob("*.safetensors")):  # a hub repository's pickles are not even fetched
        raise ModelError(
            f"{directory}: has no safetensors weights, and pickled ones are never loaded (they can run code); convert them once "
            f"(torch.load with weights_only=True, safetensors.torch.save_file) and give that directory as model.source.{key}"
        )


def _load_model(key: str, value: Any) -> Any:
    if isinstance(value, nn.Module):
        return value.float().eval()
    directory = _directory(key, str(value))
    if scripts := sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*.py")):
        raise ModelError(f"{directory}: brings custom code ({scripts[0]}), which is never run; remove it or use another model.source.{key}")
    _check_weights(key, directory)
    name = read_json(directory / "config.json").get("_class_name")
    if name not in _CLASSES[key]:
        raise ModelError(f"{directory}: model.source.{key} is to be {' or '.join(_CLASSES[key])}, not {name}")
    try:
        model, info = getattr(diffusers, name).from_pretrained(
            directory, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # the libraries raise their own (SafetensorError, AttributeError, ...)
        raise ModelError(f"{directory}: cannot be loaded as model.source.{key} ({type(error).__name__}: {error})") from None
    if wrong := sorted([*info["missing_keys"], *info["unexpected_keys"]]):
        # diffusers only logs it, and the model would give noise
        raise ModelError(
            f"{directory}: weights and config.json do not fit: {len(info['missing_keys'])} are missing, {len(info['unexpected_keys'])} are "
            f"not the class's ({wrong[0]}, ...); set model.source.{key} to a {name} as diffusers saves it"
        )
    return without_place(model).eval()


def _load_scheduler(value: Any) -> Any:
    if not isinstance(value, Mapping):
        directory = _directory("scheduler", str(value))
        return training_schedule(directory, read_json(directory / "scheduler_config.json"))
    known = {name for each in (diffusers.DDPMScheduler, diffusers.DDIMScheduler) for name in inspect.signature(each).parameters}
    if unknown := sorted(set(map(str, value)) - known):
        raise ModelError(f"model.source.scheduler.{unknown[0]}: no value of a scheduler; there are {', '.join(sorted(known))}")
    return training_schedule("model.source.scheduler", dict(value))


@torch.no_grad()
def _check_fit(parts: PipelineParts) -> None:
    """Refuse parts of different families, by name and number, before anything is trained on them."""
    takes, makes = parts.unet.config.in_channels, parts.vae.config.latent_channels
    if takes != makes:
        raise ModelError(
            f"the UNet takes latents of {takes} channels, the VAE makes {makes}; "
            "set model.source.vae to the VAE that the UNet was trained with"
        )
    check_unet("model.source.unet", parts)
    if parts.unet.config.sample_size is None:
        raise ModelError("model.source.unet: its config.json has no sample_size (latents a side); add it, 64 for images of 512 pixels")
    device = next(parts.text_encoder.parameters()).device
    states = parts.text_encoder(torch.zeros(1, 3, dtype=torch.long, device=device))[0]
    attends = parts.unet.config.cross_attention_dim
    if states.ndim != 3 or states.shape[-1] not in (attends if isinstance(attends, (list, tuple)) else (attends,)):
        shape = f"states of size {states.shape[-1]}" if states.ndim == 3 else f"a tensor of shape {tuple(states.shape)}"
        raise ModelError(
            f"the text encoder ({type(parts.text_encoder).__name__}) gives {shape}, the UNet attends to {attends} (cross_attention_dim); "
            "set model.source.text_encoder to the encoder that the UNet was trained with, or model.source.text_encoder_class"
        )
