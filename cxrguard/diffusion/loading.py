"""Load a diffusers pipeline directory, safetensors only and without remote code; a hub name goes the same way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, DiffusionPipeline
from torch import Tensor

from cxrguard.errors import ModelError

PACKAGED = Path(__file__).parent.parent / "models"
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".msgpack", ".h5")
_LIBRARIES = ("diffusers", "transformers", None)
# Parts that Stable Diffusion directories list and that training does not use; they are never loaded.
_UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]


@dataclass(frozen=True)
class PipelineParts:
    """The parts of a text-to-image pipeline. No ``nn.Module`` itself, so that a module that holds it does not own them."""

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: DDPMScheduler

    @property
    def alphas_cumprod(self) -> Tensor:
        """ᾱ_t of the training schedule, ``[T]``."""
        alphas: Tensor = self.scheduler.alphas_cumprod
        return alphas

    @property
    def prediction_type(self) -> str:
        """``epsilon`` or ``v_prediction``."""
        return str(self.scheduler.config["prediction_type"])


def load_pipeline(source: str, device: str = "cpu") -> PipelineParts:
    """Load the parts in float32 from a pipeline directory, ``packaged:NAME`` or a hub name.

    Raises:
        ModelError: the source is neither, a part is missing, its weights are only pickled, or it brings custom code.

    """
    directory = resolve_source(source)
    check_directory(directory)
    unused = {name: None for name in _UNUSED if name in _read_json(directory / "model_index.json")}
    try:
        pipe = DiffusionPipeline.from_pretrained(
            directory, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, local_files_only=True, **unused
        )
    except Exception as error:  # the libraries raise their own (SafetensorError, AttributeError, ...)
        raise ModelError(f"{directory}: cannot be loaded as a diffusers pipeline ({type(error).__name__}: {error})") from None
    missing = [name for name in ("unet", "vae", "text_encoder", "tokenizer") if getattr(pipe, name, None) is None]
    if missing:
        raise ModelError(f"{directory}: the pipeline has no {', '.join(missing)}; a UNet text-to-image pipeline is needed")
    if len(pipe.tokenizer) <= len(set(pipe.tokenizer.all_special_ids)):
        raise ModelError(f"{directory}: the tokenizer has no vocabulary; its files are missing")
    _check_unet(directory, pipe)
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    if scheduler.config["prediction_type"] not in ("epsilon", "v_prediction"):
        raise ModelError(f"{directory}: prediction type {scheduler.config['prediction_type']!r} is not supported")
    if float(scheduler.alphas_cumprod[-1]) == 0:
        # At ᾱ = 0 noise and image are not told apart: a sample would be NaN, and NaN is near to no training image.
        raise ModelError(f"{directory}: a schedule of zero terminal SNR (rescale_betas_zero_snr) is not supported")
    return PipelineParts(pipe.unet.to(device), pipe.vae.to(device), pipe.text_encoder.to(device), pipe.tokenizer, scheduler)


def _check_unet(directory: Path, pipe: Any) -> None:
    """Only a plain text-conditional UNet is trained: no SDXL, no inpainting, no class labels."""
    unet, channels = pipe.unet, pipe.vae.config.latent_channels
    extra = [name for name in ("addition_embed_type", "class_embed_type") if unet.config.get(name)]
    if type(unet).__name__ != "UNet2DConditionModel" or extra or unet.config.in_channels != channels:
        raise ModelError(
            f"{directory}: the UNet ({type(unet).__name__}, {unet.config.in_channels} channels for {channels} of latents"
            f"{', ' + ', '.join(extra) if extra else ''}) is not a plain text-to-image UNet2DConditionModel, which is what is supported"
        )


def resolve_source(source: str) -> Path:
    """A local directory for ``source``; a hub name is fetched (configs and safetensors only) and is then local too."""
    if source.startswith("packaged:"):
        return PACKAGED / source.removeprefix("packaged:")
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or source.count("/") != 1 or source.startswith("."):
        raise ModelError(f"{source}: no such directory; set model.source to a diffusers pipeline directory or a hub name")
    return _fetch(source)


def _fetch(source: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=_FILES))
    except Exception as error:
        raise ModelError(
            f"{source}: no such directory, and it could not be fetched from the hub ({type(error).__name__}); "
            "check the name or download it and give its directory as model.source"
        ) from None


def check_directory(directory: Path) -> None:
    """Refuse what would run code or unpickle; see :func:`load_pipeline`."""
    index = directory / "model_index.json"
    if not index.is_file():
        raise ModelError(f"{directory}: has no model_index.json; a diffusers pipeline directory is needed")
    scripts = sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*.py"))
    if scripts:
        raise ModelError(f"{directory}: brings custom code ({scripts[0]}), which is never run; remove it or use a plain pipeline")
    parts = {k: v for k, v in _read_json(index).items() if isinstance(v, list) and len(v) == 2}
    for name, (library, _) in parts.items():
        if name in _UNUSED:
            continue
        if library not in _LIBRARIES:
            raise ModelError(f"{index}: part {name!r} needs custom code ({library}); only diffusers and transformers classes are loaded")
        if library is not None:
            _check_part(directory / name)


def _check_part(part: Path) -> None:
    if not part.is_dir():  # without its files a tokenizer would load all the same, knowing no word
        raise ModelError(f"{part}: this part of the pipeline is missing; save the whole pipeline again")
    for config in part.glob("*.json"):
        if "index" not in config.name and "auto_map" in _read_json(config):
            raise ModelError(f"{config}: asks for remote code (auto_map), which is never run; use a model of a built-in class")
    files = list(part.glob("*"))
    pickled = sorted(p.name for p in files if p.suffix in _PICKLES)
    if pickled and not any(p.suffix == ".safetensors" for p in files):
        raise ModelError(
            f"{part / pickled[0]}: pickled weights are never loaded (they can run code); "
            "save the pipeline again with safe_serialization=True"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON ({type(error).__name__})") from None
    return loaded if isinstance(loaded, dict) else {}
