"""What the cache gives is what the encoders give, until one of them changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cxrguard.data import encoded as module
from cxrguard.data.cache import Cache
from cxrguard.data.encoded import CachedEncoder, ImageRows, to_pixel_values
from cxrguard.diffusion.encoding import encode_images, encode_prompts
from cxrguard.diffusion.fingerprint import text_fingerprint, vae_fingerprint
from cxrguard.diffusion.loading import PipelineParts, load_pipeline

PROMPTS = [f"FINDINGS: PA view. Clear lungs, study number {i}." for i in range(70)]


@pytest.fixture
def parts(pipeline_dir: Path) -> PipelineParts:
    return load_pipeline(str(pipeline_dir))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    (tmp_path / "cache").mkdir(mode=0o700)
    return Cache(tmp_path / "cache", b"k" * 32)


def images(n: int) -> list[Any]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (64, 64), np.uint8) for _ in range(n)]


class Counted:
    """Counts what is encoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images, self.prompts = list[int](), list[int]()

        def encode(parts: Any, pixels: torch.Tensor) -> torch.Tensor:
            self.images.append(len(pixels))
            return encode_images(parts, pixels)

        def read(parts: Any, prompts: list[str]) -> torch.Tensor:
            self.prompts.append(len(prompts))
            return encode_prompts(parts, prompts)

        monkeypatch.setattr(module, "encode_images", encode)
        monkeypatch.setattr(module, "encode_prompts", read)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def test_bit_for_bit_what_the_encoders_give_all_at_once(parts: PipelineParts, cache: Cache, counted: Counted) -> None:
    pixels = images(70)
    encoder = CachedEncoder(parts, cache)
    latents, states = encoder.latents(pixels), encoder.states(PROMPTS)
    assert counted.images == [32, 32, 6] and counted.prompts == [64, 6]
    assert torch.equal(latents[:], encode_images(parts, to_pixel_values(pixels).expand(-1, 3, -1, -1)))
    assert torch.equal(states[:], encode_prompts(parts, PROMPTS))
    assert latents.shape == (70, 4, 8, 8) and states.shape == (70, 77, 16)
    again = CachedEncoder(parts, cache)
    assert torch.equal(again.latents(pixels)[:], latents[:]) and torch.equal(again.states(PROMPTS)[:], states[:])
    assert len(counted.images) == 3 and len(counted.prompts) == 2


def test_equal_prompts_and_images_share_a_row(parts: PipelineParts, cache: Cache, counted: Counted) -> None:
    pixels, encoder = images(3), CachedEncoder(parts, cache)
    latents, states = encoder.latents([*pixels, pixels[1].copy()]), encoder.states([*PROMPTS[:3], PROMPTS[0]])
    assert latents.rows.tolist() == [0, 1, 2, 1] and states.rows.tolist() == [0, 1, 2, 0]
    assert counted.images == [3] and counted.prompts == [3]


def test_another_vae_makes_the_latents_anew_and_no_state(parts: PipelineParts, cache: Cache, counted: Counted) -> None:
    pixels = images(4)
    before = CachedEncoder(parts, cache).latents(pixels)[:]
    CachedEncoder(parts, cache).states(PROMPTS[:4])
    with torch.no_grad():
        next(p for name, p in parts.vae.named_parameters() if name.startswith("encoder")).flatten()[0] += 0.5
    assert not torch.equal(CachedEncoder(parts, cache).latents(pixels)[:], before) and counted.images == [4, 4]
    CachedEncoder(parts, cache).states(PROMPTS[:4])
    assert counted.prompts == [4]
    factor = parts.vae.config.scaling_factor
    parts.vae.register_to_config(scaling_factor=2 * factor)
    CachedEncoder(parts, cache).latents(pixels)
    assert counted.images == [4, 4, 4]


def test_another_text_encoder_or_tokenizer_makes_the_states_anew(parts: PipelineParts, cache: Cache, counted: Counted) -> None:
    CachedEncoder(parts, cache).states(PROMPTS[:4])
    with torch.no_grad():
        next(parts.text_encoder.parameters()).flatten()[0] += 0.5
    CachedEncoder(parts, cache).states(PROMPTS[:4])
    assert counted.prompts == [4, 4]
    parts.tokenizer.add_tokens(["effusion"])
    CachedEncoder(parts, cache).states(PROMPTS[:4])
    parts.tokenizer.model_max_length = 70
    assert CachedEncoder(parts, cache).states(PROMPTS[:4]).shape == (4, 70, 16)
    assert counted.prompts == [4] * 4


def test_fingerprints_are_of_the_content_alone(pipeline_dir: Path, tmp_path: Path) -> None:
    first, other = (load_pipeline(str(pipeline_dir)) for _ in range(2))
    from shutil import copytree

    moved = load_pipeline(str(copytree(pipeline_dir, tmp_path / "elsewhere")))
    for fingerprint in (vae_fingerprint, text_fingerprint):
        prints = {fingerprint(parts) for parts in (first, other, moved)}
        assert len(prints) == 1 and len(prints.pop()) == 128
    assert vae_fingerprint(first) != text_fingerprint(first)


def test_using_a_tokenizer_changes_no_fingerprint(parts: PipelineParts) -> None:
    before = text_fingerprint(parts)
    encode_prompts(parts, PROMPTS[:2])
    parts.tokenizer("effusion " * 100, truncation=True, max_length=10)
    assert text_fingerprint(parts) == before


def test_weights_in_half_precision_have_a_fingerprint(parts: PipelineParts) -> None:
    half = replace(parts, vae=parts.vae.to(torch.bfloat16))
    before = vae_fingerprint(half)
    parts.vae.to(torch.float32)
    assert vae_fingerprint(parts) != before


def test_images_are_made_when_they_are_asked_for() -> None:
    pixels = images(5)
    rows, want = ImageRows(pixels), to_pixel_values(pixels)
    assert rows.shape == (5, 1, 64, 64) and torch.equal(rows[:], want) and torch.equal(rows[-1], want[-1])
    assert torch.equal(torch.cat(list(rows.split(2))), want) and torch.equal(rows[torch.tensor([3, 1])], want[[3, 1]])
    assert rows[5:].shape == (0, 1, 64, 64)
