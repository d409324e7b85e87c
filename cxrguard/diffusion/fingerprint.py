"""Hashes of a pipeline's parts: what a cached latent or hidden state was made with."""

from __future__ import annotations

import hashlib
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cxrguard.diffusion.loading import PipelineParts

_SOURCES = ("encoding.py",)
# Another release may round otherwise; a cached row must be what the run would compute itself.
_LIBRARIES = ("torch", "diffusers", "transformers")
# Where a part was loaded from and by which release changes nothing of it, and a tokenizer's last call nothing of the next.
_NOT_CONTENT = ("transformers_version", "name_or_path", "truncation", "padding")


def vae_fingerprint(parts: PipelineParts) -> str:
    """128 hex digits: the VAE's weights, its configuration with the scaling factor, its device, the code that calls it."""
    return _Fingerprint(parts.vae).hexdigest()


def text_fingerprint(parts: PipelineParts) -> str:
    """Like :func:`vae_fingerprint`, of the text encoder, with every file of the tokenizer and its length."""
    found = _Fingerprint(parts.text_encoder)
    found.add("length", parts.tokenizer.model_max_length)
    with tempfile.TemporaryDirectory() as directory:
        parts.tokenizer.save_pretrained(directory)
        for path in sorted(p for p in Path(directory).rglob("*") if p.is_file()):
            content = path.read_bytes()
            if path.suffix == ".json":
                content = json.dumps(_content(json.loads(content)), sort_keys=True).encode()
            found.add(path.relative_to(directory).as_posix(), content)
    return found.hexdigest()


class _Fingerprint:
    """A hash of a module; streams over its weights, one tensor at a time."""

    def __init__(self, module: Any) -> None:
        self._hash = hashlib.blake2b()
        for source in _SOURCES:
            self.add(source, (Path(__file__).parent / source).read_bytes())
        for library in _LIBRARIES:
            self.add(library, version(library))
        config = module.config
        plain = config.to_dict() if hasattr(config, "to_dict") else dict(config)
        self.add("config", json.dumps(_content(plain), sort_keys=True, default=str))
        self.add("class", type(module).__name__)
        for name, tensor in sorted(module.state_dict().items()):
            self.add("tensor", f"{name} {tensor.dtype} {list(tensor.shape)} {tensor.device.type}")
            self._hash.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())

    def add(self, name: str, value: object) -> None:
        """One more thing that counts."""
        content = value if isinstance(value, bytes) else str(value).encode()
        self._hash.update(f"{name}\0{len(content)}\0".encode())
        self._hash.update(content)

    def hexdigest(self) -> str:
        """128 digits."""
        return self._hash.hexdigest()


def _content(value: Any) -> Any:
    """``value`` without what says where it came from."""
    if isinstance(value, dict):
        return {k: _content(v) for k, v in value.items() if not str(k).startswith("_") and k not in _NOT_CONTENT}
    return [_content(v) for v in value] if isinstance(value, (list, tuple)) else value
