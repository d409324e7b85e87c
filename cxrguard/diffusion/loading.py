"""Load a diffusers pipeline, safetensors only and without remote code: a directory, or a hub name, which goes the same way."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
FILES = ("*.json", "*.safetensors", "*.txt", "*.model")


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

    @property
    def image_size(self) -> int | None:
        """Pixels a side of what diffusers generates with these parts; None where the images are not square."""
        size = self.unet.config.sample_size
        sides = {size} if isinstance(size, int) else set(size or ())
        return sides.pop() * 2 ** (len(self.vae.config.block_out_channels) - 1) if len(sides) == 1 else None


def load_pipeline(source: str | Mapping[str, Any], device: str = "cpu", schedule: Mapping[str, Any] | None = None) -> PipelineParts:
    """Load the parts in float32 from a pipeline directory, ``packaged:NAME`` or a hub name.

    Args:
        source: see above; a mapping names the places of parts, see :func:`cxrguard.diffusion.assembled.load_assembled`.
        device: where to.
        schedule: values that replace those of the scheduler's config, e.g. another ``prediction_type``; None leaves one as it is.

    Raises:
        ModelError: the source is neither, a part is missing, its weights are only pickled, or it brings custom code.

    """
    if isinstance(source, Mapping):
        from cxrguard.diffusion.assembled import load_assembled  # which builds on this module

        return _with_schedule(load_assembled(source, device), schedule)
    directory = resolve_source(str(source))
    check_directory(directory)
    unused = {name: None for name in _UNUSED if name in read_json(directory / "model_index.json")}
    try:
        pipe = DiffusionPipeline.from_pretrained(
            directory, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, local_files_only=True, **unused
        )
    except Exception as error:  # the libraries raise their own (SafetensorError, AttributeError, ...)
        raise ModelError(f"{directory}: cannot be loaded as a diffusers pipeline ({type(error).__name__}: {error})") from None
    missing = [name for name in ("unet", "vae", "text_encoder", "tokenizer") if getattr(pipe, name, None) is None]
    if missing:
        raise ModelError(f"{directory}: the pipeline has no {', '.join(missing)}; a UNet text-to-image pipeline is needed")
    if not has_vocabulary(pipe.tokenizer):
        raise ModelError(f"{directory}: the tokenizer has no vocabulary; its files are missing")
    check_unet(directory, pipe)
    scheduler = training_schedule(directory, pipe.scheduler.config)
    unet, vae = (without_place(part).to(device) for part in (pipe.unet, pipe.vae))
    return _with_schedule(PipelineParts(unet, vae, pipe.text_encoder.to(device), pipe.tokenizer, scheduler), schedule)


def _with_schedule(parts: PipelineParts, schedule: Mapping[str, Any] | None) -> PipelineParts:
    changed = {name: value for name, value in (schedule or {}).items() if value is not None}
    if not changed:
        return parts
    return replace(parts, scheduler=training_schedule("model.schedule", {**parts.scheduler.config, **changed}))


def without_place(model: Any) -> Any:
    """A diffusers model whose config no longer names the directory it came from, which an export would carry along."""
    model.register_to_config(_name_or_path="")
    return model


def training_schedule(source: Path | str, config: Any) -> DDPMScheduler:
    """The schedule of a scheduler's config, whatever the sampler.

    Raises:
        ModelError: it is none that is trained on.

    """
    try:
        scheduler = DDPMScheduler.from_config(config)
    except Exception as error:
        raise ModelError(f"{source}: no schedule can be made of its values ({type(error).__name__}: {error})") from None
    if scheduler.config["prediction_type"] not in ("epsilon", "v_prediction"):
        raise ModelError(f"{source}: prediction type {scheduler.config['prediction_type']!r} is not supported")
    if float(scheduler.alphas_cumprod[-1]) == 0 and scheduler.config["prediction_type"] == "epsilon":
        raise ModelError(
            f"{source}: a schedule of zero terminal SNR (rescale_betas_zero_snr) needs v_prediction: noise that is all there is to see "
            "says nothing about the image"
        )
    return above_zero(scheduler)


def above_zero(scheduler: Any) -> Any:
    """The scheduler with ᾱ of the last timestep at 2⁻²⁴ where it is 0 (Lin et al., WACV 2024), as diffusers' Euler scheduler has it.

    At 0 the image cannot be had from the noise, of which samplers and probes speak: a sample would be NaN, and NaN is near to no
    training image.
    """
    if float(scheduler.alphas_cumprod[-1]) == 0:
        scheduler.alphas_cumprod[-1] = 2.0**-24
    return scheduler


def has_vocabulary(tokenizer: Any) -> bool:
    """Whether a tokenizer knows more than its special tokens; without its files it would load all the same."""
    return len(tokenizer) > len(set(tokenizer.all_special_ids))


def check_unet(source: Path | str, pipe: Any) -> None:
    """Only a plain text-conditional UNet is trained: no SDXL, no inpainting, no class labels."""
    unet, channels = pipe.unet, pipe.vae.config.latent_channels
    extra = [name for name in ("addition_embed_type", "class_embed_type") if unet.config.get(name)]
    if type(unet).__name__ != "UNet2DConditionModel" or extra or unet.config.in_channels != channels:
        raise ModelError(
            f"{source}: the UNet ({type(unet).__name__}, {unet.config.in_channels} channels for {channels} of latents"
            f"{', ' + ', '.join(extra) if extra else ''}) is not a plain text-to-image UNet2DConditionModel, which is what is supported"
        )


def resolve_source(
    source: str, key: str = "model.source", what: str = "a diffusers pipeline directory", patterns: Sequence[str] = FILES
) -> Path:
    """A local directory for ``source``; a hub name is fetched (configs and safetensors only) and is then local too.

    Args:
        source: a directory, ``packaged:NAME`` or a hub name.
        key: of the configuration, for the message.
        what: it is to name.
        patterns: of the files that are fetched.

    Raises:
        ModelError: it is neither, or cannot be fetched.

    """
    if source.startswith("packaged:"):
        return PACKAGED / source.removeprefix("packaged:")
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or source.count("/") != 1 or source.startswith("."):
        raise ModelError(f"{source}: no such directory; set {key} to {what} or a hub name")
    return _fetch(source, key, patterns)


def _fetch(source: str, key: str, patterns: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=list(patterns)))
    except Exception as error:
        raise ModelError(
            f"{source}: no such directory, and it could not be fetched from the hub ({type(error).__name__}); "
            f"check the name, log in (hf auth login) where it is gated, or download it and give its directory as {key}"
        ) from None


def check_directory(directory: Path) -> None:
    """Refuse what would run code or unpickle; see :func:`load_pipeline`."""
    index = directory / "model_index.json"
    if not index.is_file():
        raise ModelError(f"{directory}: has no model_index.json; a diffusers pipeline directory is needed")
    scripts = sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*.py"))
    if scripts:
        raise ModelError(f"{directory}: brings custom code ({scripts[0]}), which is never run; remove it or use a plain pipeline")
    parts = {k: v for k, v in read_json(index).items() if isinstance(v, list) and len(v) == 2}
    for name, (library, _) in parts.items():
        if name in _UNUSED:
            continue
        if library not in _LIBRARIES:
            raise ModelError(f"{index}: part {name!r} needs custom code ({library}); only diffusers and transformers classes are loaded")
        if library is not None:
            check_part(directory / name)


def asking_for_code(part: Path) -> list[Path]:
    """The configurations of a part that name code of its own (``auto_map``)."""
    return [config for config in sorted(part.glob("*.json")) if "index" not in config.name and "auto_map" in read_json(config)]


def check_part(part: Path, *, code_allowed: bool = False) -> None:
    """Refuse a part's directory that is missing, asks for custom code or has pickled weights only."""
    if not part.is_dir():  # without its files a tokenizer would load all the same, knowing no word
        raise ModelError(f"{part}: this part of the pipeline is missing; save the whole pipeline again")
    if (asks := asking_for_code(part)) and not code_allowed:
        raise ModelError(f"{asks[0]}: asks for remote code (auto_map), which is never run; use a model of a built-in class")
    files = list(part.glob("*"))
    pickled = sorted(p.name for p in files if p.suffix in _PICKLES)
    if pickled and not any(p.suffix == ".safetensors" for p in files):
        raise ModelError(
            f"{part / pickled[0]}: pickled weights are never loaded (they can run code); "
            "save the pipeline again with safe_serialization=True"
        )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, {} for other JSON; raises ModelError for what is no JSON."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON ({type(error).__name__})") from None
    return loaded if isinstance(loaded, dict) else {}
