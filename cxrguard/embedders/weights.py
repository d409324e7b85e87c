"""Weights from files that cannot run code, and one way to say what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from cxrguard.errors import ModelError

_HUB_FILES = ["*.json", "*.safetensors"]


def load_state(path: str | Path, embedder: str, remedy: str) -> dict[str, Tensor]:
    """A flat state dict from ``.safetensors``, or from a torch file that holds tensors only (``weights_only=True``).

    A ``{"state_dict": ...}`` around it and DataParallel's ``module.`` are taken off.

    Raises:
        ModelError: no such file, it holds more than tensors, or it is damaged.

    """
    file = local_file(path, embedder, remedy)
    try:
        loaded: Any = load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors raise their own
        raise ModelError(
            f"{file}: cannot be read as a file of weights alone ({type(error).__name__}), and pickled code is never run. {remedy}"
        ) from None
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f"{file}: holds no state dict. {remedy}")
    return {name.removeprefix("module."): value for name, value in state.items()}


def local_file(path: str | Path, embedder: str, remedy: str) -> Path:
    """``path`` as an existing file.

    Raises:
        ModelError: there is none.

    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ModelError(f"{file}: no such file for the embedder {embedder}. {remedy}")
    return file


def model_directory(source: str, embedder: str, remedy: str) -> Path:
    """A local directory; a hub name is fetched (configs and safetensors only, never code) and is then local too.

    Raises:
        ModelError: there is no such directory, and it is no hub name that can be fetched.

    """
    directory = Path(source).expanduser()
    if directory.is_dir():
        return directory
    if directory.is_absolute() or source.startswith(".") or source.count("/") != 1:
        raise ModelError(f"{source}: no such directory for the embedder {embedder}. {remedy}")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=_HUB_FILES))
    except Exception as error:
        raise ModelError(
            f"{source}: no such directory for the embedder {embedder}, and the hub did not give it ({type(error).__name__}). {remedy}"
        ) from None


def read_config(directory: Path, name: str, remedy: str) -> dict[str, Any]:
    """A JSON file of a model directory.

    Raises:
        ModelError: it is missing or no JSON object.

    """
    try:
        loaded = json.loads((directory / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{directory / name}: not readable as JSON ({type(error).__name__}). {remedy}") from None
    if not isinstance(loaded, dict):
        raise ModelError(f"{directory / name}: is not a JSON object. {remedy}")
    return loaded
