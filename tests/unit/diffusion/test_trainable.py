"""What is trained, and that adapters merge, save and load without changing the model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

from cxrguard.diffusion.encoding import encode_prompts, tokenize
from cxrguard.diffusion.export import build_pipeline, export_adapters, export_pipeline
from cxrguard.diffusion.loading import PipelineParts, load_pipeline
from cxrguard.diffusion.trainable import SUBSETS, has_adapter, make_trainable, merged
from cxrguard.errors import CxrguardError


def trained(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def shake(model: torch.nn.Module, scale: float = 0.3) -> None:
    """Other values in all that is trained; a fresh adapter changes nothing."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += scale * torch.randn(parameter.shape, generator=generator)


def predict(parts: PipelineParts, unet: Any = None) -> torch.Tensor:
    dtype = next(parts.unet.parameters()).dtype
    latents = torch.randn(2, parts.unet.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(2)).to(dtype)
    states = encode_prompts(parts, ["PA view.", "Edema."]).to(dtype)
    with torch.no_grad():
        out: torch.Tensor = (unet or parts.unet)(latents, torch.tensor([5, 900]), encoder_hidden_states=states).sample
    return out


def test_full_and_frozen(parts: PipelineParts) -> None:
    make_trainable(parts.unet, "full", "k")
    assert trained(parts.unet) == {name for name, _ in parts.unet.named_parameters()}
    make_trainable(parts.text_encoder, "full", "k")
    assert trained(parts.text_encoder) == {name for name, _ in parts.text_encoder.named_parameters() if "pooler" not in name}
    make_trainable(parts.unet, "frozen", "k")
    assert trained(parts.unet) == set()


def test_subsets_are_what_their_names_say(parts: PipelineParts) -> None:
    chosen = {}
    for name in SUBSETS:
        make_trainable(parts.unet, name, "k")
        chosen[name] = trained(parts.unet)
        assert 0 < len(chosen[name]) < len(list(parts.unet.parameters())), name
    assert all(".attn1." in n or ".attn2." in n for n in chosen["attention"])
    assert chosen["cross_attention"] == {n for n in chosen["attention"] if ".attn2." in n} < chosen["attention"]
    assert all(n.endswith(".bias") for n in chosen["biases"])
    shapes = dict(parts.unet.named_parameters())
    assert all(shapes[n].ndim == 1 for n in chosen["norms"]) and any(n.startswith("conv_norm_out") for n in chosen["norms"])


def test_attention_of_the_text_encoder(parts: PipelineParts) -> None:
    make_trainable(parts.text_encoder, "attention", "k")
    names = trained(parts.text_encoder)
    assert names and all("attn" in n or "attention" in n for n in names)


def test_own_expressions(parts: PipelineParts) -> None:
    make_trainable(parts.unet, [r"^conv_out", r"time_embedding.*bias$"], "k")
    assert trained(parts.unet) == {"conv_out.weight", "conv_out.bias", "time_embedding.linear_1.bias", "time_embedding.linear_2.bias"}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("everything", "model.module.unet=everything: is none of full, frozen, lora, attention"),
        (["no_such_layer"], "names no parameter of UNet2DConditionModel"),
        (["("], "'(' is no regular expression"),
    ],
)
def test_what_is_not_there_is_refused(parts: PipelineParts, what: Any, message: str) -> None:
    with pytest.raises(CxrguardError) as error:
        make_trainable(parts.unet, what, "model.module.unet")
    assert message in str(error.value)


def test_a_rank_below_one_is_refused(parts: PipelineParts) -> None:
    with pytest.raises(CxrguardError, match="rank of LoRA must be at least 1, not 0"):
        make_trainable(parts.unet, "lora", "k", rank=0)


def test_a_fresh_adapter_changes_nothing_and_is_drawn_by_the_seed_alone(parts: PipelineParts) -> None:
    before, state = predict(parts), torch.get_rng_state()
    other = copy.deepcopy(parts.unet)
    make_trainable(parts.unet, "lora", "k", rank=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.allclose(predict(parts), before, atol=1e-6)
    torch.manual_seed(99)
    make_trainable(other, "lora", "k", rank=2)
    names = trained(parts.unet)
    assert names and all("lora_" in n for n in names)
    theirs = dict(other.named_parameters())
    assert all(torch.equal(p, theirs[n]) for n, p in parts.unet.named_parameters() if n in names)


def naive_merge(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, rank: int, alpha: float) -> torch.Tensor:
    """W + α/r B A (Hu et al., ICLR 2022, eq. 3)."""
    out = weight.clone()
    for i in range(b.shape[0]):
        for j in range(a.shape[1]):
            out[i, j] += alpha / rank * sum(float(b[i, k] * a[k, j]) for k in range(rank))
    return out


def test_merging_adds_the_scaled_product(parts: PipelineParts) -> None:
    make_trainable(parts.unet, "lora", "k", rank=2, alpha=3.0)
    shake(parts.unet)
    layer = next(m for n, m in parts.unet.named_modules() if n.endswith("attn2.to_k"))
    weights = (layer.base_layer.weight, layer.lora_A["default"].weight, layer.lora_B["default"].weight)
    expected = naive_merge(*(weight.detach() for weight in weights), 2, 3.0)
    plain = merged(parts.unet)
    got = next(m for n, m in plain.named_modules() if n.endswith("attn2.to_k")).weight
    assert torch.allclose(got, expected, atol=1e-4)


def test_merged_is_plain_and_predicts_the_same(parts: PipelineParts) -> None:
    names = set(parts.unet.state_dict())
    assert merged(parts.unet) is parts.unet
    make_trainable(parts.unet, "lora", "k", rank=2)
    shake(parts.unet)
    parts.unet.double()
    adapted = predict(parts)
    plain = merged(parts.unet)
    assert has_adapter(parts.unet) and not has_adapter(plain) and set(plain.state_dict()) == names
    assert torch.allclose(predict(parts, plain), adapted, atol=1e-9)
    assert torch.equal(predict(parts), adapted), "the model in training is left as it is"


def test_adapters_of_both_survive_export_as_pipeline_and_as_lora(pipeline_dir: Path, tmp_path: Path) -> None:
    parts = load_pipeline(str(pipeline_dir))
    for name, model in (("unet", parts.unet), ("text", parts.text_encoder)):
        make_trainable(model, "lora", name, rank=2, alpha=4.0)
        shake(model)
    states, out = encode_prompts(parts, ["Edema."]), predict(parts)
    export_pipeline(parts, tmp_path / "pipeline")
    assert export_adapters(parts, tmp_path / "lora")
    assert [p.name for p in (tmp_path / "lora").iterdir()] == ["pytorch_lora_weights.safetensors"]

    whole = load_pipeline(str(tmp_path / "pipeline"))
    assert torch.allclose(encode_prompts(whole, ["Edema."]), states, atol=1e-5) and torch.allclose(predict(whole), out, atol=1e-4)

    pipe = StableDiffusionPipeline.from_pretrained(pipeline_dir, safety_checker=None)
    pipe.load_lora_weights(tmp_path / "lora")
    with torch.no_grad():
        theirs = pipe.text_encoder(tokenize(pipe.tokenizer, ["Edema."]))[0]
    assert torch.allclose(theirs, states, atol=1e-5)
    assert torch.allclose(predict(parts, pipe.unet), out, atol=1e-4)


def test_no_adapters_no_file(parts: PipelineParts, tmp_path: Path) -> None:
    assert not export_adapters(parts, tmp_path / "lora") and not (tmp_path / "lora").exists()
    assert build_pipeline(parts).unet is parts.unet
