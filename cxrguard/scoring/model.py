"""A pipeline as the detectors need it: prompts in, a :class:`ProbeBatch` out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.diffusion.encoding import are_cut, encode_prompts, token_layout
from cxrguard.diffusion.loading import PipelineParts, check_directory, load_pipeline, resolve_source
from cxrguard.errors import CxrguardError, ModelError
from cxrguard.probes.batch import ProbeBatch
from cxrguard.randomness import prompt_key
from cxrguard.scoring.prompts import hash_file

_HASHED = (".json", ".safetensors", ".txt", ".model")
_LONGEST = 100_000


class ScoringModel:
    """A pipeline, and the base that it started from.

    Args:
        source: a diffusers pipeline directory, ``packaged:NAME`` or a hub name.
        base: another of the same latents and text encoder, or "".
        device: where to.

    Attributes:
        parts: of the pipeline.
        denoiser: its UNet.
        max_length: tokens of a prompt, special ones included.

    Raises:
        ModelError: If the pipeline cannot be loaded, or its text encoder cannot be taken.

    """

    def __init__(self, source: str, base: str = "", device: str = "cpu") -> None:
        self.parts = _load(source, device)
        self.denoiser = UNetDenoiser(self.parts.unet, self.parts.alphas_cumprod, self.parts.prediction_type)
        self.max_length = _max_length(source, self.parts)
        self._device = device
        self._uncond = self._checked_encoding(source)
        self._base = self._load_base(base, source) if base else None

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one sample."""
        size = self.parts.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return int(self.parts.unet.config.in_channels), int(height), int(width)

    def batch(self, prompts: Sequence[str], seed: int, noise_of: str | None = None) -> ProbeBatch:
        """What the detectors are given: noise is a function of seed and prompt, and there are no images.

        Args:
            prompts: any.
            seed: of the noise.
            noise_of: the prompt whose noise all of them get, to compare variants of it.

        Raises:
            ModelError: see :meth:`encode`.

        """
        latents = torch.zeros(len(prompts), *self.latent_shape, device=self._device)
        keys = tuple(prompt_key(noise_of or prompt) for prompt in prompts)
        batch = ProbeBatch(self.encode(prompts), self._uncond, latents, keys, seed, self.parts.scheduler.config)
        return replace(batch, base=self._base, tokens=token_layout(self.parts.tokenizer, prompts))

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Hidden states ``[N, L, D]``, as the pipeline itself makes them.

        Raises:
            ModelError: If the encoder fails; its own message may hold the text.

        """
        try:
            return encode_prompts(self.parts, prompts, batch_size=len(prompts))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            failure = type(error).__name__
        raise ModelError(f"the text encoder ({type(self.parts.text_encoder).__name__}) failed on a prompt ({failure})")

    def are_cut(self, prompts: Sequence[str]) -> list[bool]:
        """Which prompts are longer than the encoder takes."""
        return are_cut(self.parts.tokenizer, prompts)

    def _checked_encoding(self, source: str) -> Tensor:
        """The empty prompt's hidden states, if they fit the UNet."""
        try:
            uncond = self.encode([""])
        except ModelError as error:
            raise ModelError(f"{source}: its text encoder cannot be taken: {error}") from None
        given, wanted = uncond.shape[-1], self.parts.unet.config.cross_attention_dim
        if uncond.ndim != 3 or given not in (wanted if isinstance(wanted, (list, tuple)) else (wanted,)):
            raise ModelError(
                f"{source}: its text encoder ({type(self.parts.text_encoder).__name__}) cannot be taken: it gives states of size {given}, "
                f"the UNet attends to {wanted}"
            )
        return uncond

    def _load_base(self, base: str, source: str) -> UNetDenoiser:
        parts = _load(base, self._device)
        ours, theirs = self.parts.unet.config, parts.unet.config
        for key in ("in_channels", "sample_size", "cross_attention_dim"):
            if ours[key] != theirs[key]:
                raise ModelError(f"{base}: is no base of {source}: its UNet has {key}={theirs[key]}, the model's {ours[key]}")
        return UNetDenoiser(parts.unet, parts.alphas_cumprod, parts.prediction_type)


def _load(source: str, device: str) -> PipelineParts:
    for name in ("diffusers", "transformers"):  # their hints are about other uses
        logging.getLogger(name).setLevel(logging.ERROR)
    _no_bars()
    with _in_words_of_the_command():
        parts = load_pipeline(source, device)
    for part in (parts.unet, parts.text_encoder):
        part.eval().requires_grad_(False)
    return parts


@contextmanager
def fits_in_memory(n: int, then: str = "") -> Iterator[None]:
    """Raises CxrguardError, which says what to do, if memory runs out with ``n`` prompts at once."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise CxrguardError(f"out of memory with {n} prompts at once. Lower --batch-size{then}.") from None


@contextmanager
def _in_words_of_the_command() -> Iterator[None]:
    """The configuration's key is an option here."""
    try:
        yield
    except ModelError as error:
        raise ModelError(str(error).replace("set model.source to", "--model takes").replace("as model.source", "as --model")) from None


def _no_bars() -> None:
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def _max_length(source: str, parts: PipelineParts) -> int:
    length = int(parts.tokenizer.model_max_length)
    positions = getattr(parts.text_encoder.config, "max_position_embeddings", None)
    if length > min(_LONGEST, positions or _LONGEST):
        raise ModelError(
            f"{source}: its tokenizer pads prompts to {length if length <= _LONGEST else 'no particular length'}, which its text encoder "
            f"({type(parts.text_encoder).__name__}, {positions or 'unknown'} positions) cannot take; set model_max_length in "
            "tokenizer_config.json"
        )
    return length


def fingerprint_model(source: str) -> str:
    """A hash of a pipeline's weights and settings.

    Raises:
        ModelError: If it is no pipeline that is loaded; see :func:`cxrguard.diffusion.loading.check_directory`.

    """
    with _in_words_of_the_command():
        directory = resolve_source(source)
        check_directory(directory)
    files: list[Path] = sorted(path for path in directory.rglob("*") if path.suffix in _HASHED and path.is_file())
    told: list[Any] = [(path.relative_to(directory).as_posix(), hash_file(path)) for path in files]
    return hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest()
