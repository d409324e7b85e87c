"""Prompts and images are encoded as ``StableDiffusionPipeline`` does it."""

from __future__ import annotations

import torch

from cxrguard.diffusion.encoding import decode_latents, encode_images, encode_prompts, tokenize
from cxrguard.diffusion.export import build_pipeline
from cxrguard.diffusion.loading import PipelineParts

PROMPTS = ["PA view. Small left pleural effusion.", "", "effusion " * 300]


def test_token_ids_have_the_tokenizers_own_length(parts: PipelineParts) -> None:
    ids = tokenize(parts.tokenizer, PROMPTS)
    assert ids.shape == (3, parts.tokenizer.model_max_length) and ids.dtype == torch.int64
    assert parts.tokenizer.model_max_length == {"epsilon": 77, "v_prediction": 128}[parts.prediction_type]
    assert len(set(ids[0].tolist())) > 4  # words are known


def test_hidden_states_equal_the_pipelines(parts: PipelineParts) -> None:
    pipe = build_pipeline(parts)
    with torch.no_grad():
        text, uncond = pipe.encode_prompt(PROMPTS, "cpu", 1, True)
    assert torch.allclose(encode_prompts(parts, PROMPTS), text, atol=1e-6)
    assert torch.allclose(encode_prompts(parts, [""]), uncond[:1], atol=1e-6)


def test_batch_size_changes_no_state(parts: PipelineParts) -> None:
    assert torch.allclose(encode_prompts(parts, PROMPTS, batch_size=1), encode_prompts(parts, PROMPTS), atol=1e-5)


def test_images_become_scaled_posterior_modes_and_gray_again(parts: PipelineParts) -> None:
    images = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1) * 2 - 1
    latents = encode_images(parts, images, batch_size=2)
    scale = parts.vae.config.scaling_factor
    assert latents.shape == (3, parts.unet.config.in_channels, 8, 8)
    with torch.no_grad():
        moments = parts.vae.quant_conv(parts.vae.encoder(images))
        assert torch.allclose(latents, moments.chunk(2, dim=1)[0] * scale, atol=1e-5)
        gray = decode_latents(parts, latents, batch_size=2)
        want = torch.stack([parts.vae.decode(x[None] / scale).sample[0].clamp(-1, 1).mean(0, keepdim=True) for x in latents])
    assert gray.shape == (3, 1, 64, 64) and torch.allclose(gray, want, atol=1e-5)


def test_decoded_images_stay_in_range(parts: PipelineParts) -> None:
    latents = 1e6 * torch.randn(2, parts.unet.config.in_channels, 8, 8)
    with torch.no_grad():
        parts.vae.decoder.conv_out.weight.mul_(1000)
    gray = decode_latents(parts, latents)
    assert gray.min() >= -1 and gray.max() <= 1 and gray.abs().max() == 1
