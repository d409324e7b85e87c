"""The text encoder and the tokenizer of an assembled pipeline, such that plain diffusers loads them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from cxrguard.diffusion.loading import asking_for_code, has_vocabulary, read_json
from cxrguard.errors import ModelError

_PROBES = ("No pleural effusion.", "The heart is normal in size", "")
_LONGEST = 100_000


def check_code(directory: Path, *, allowed: bool) -> None:
    """Refuse a text part that brings or asks for custom code, unless it is not run or was opted into.

    Raises:
        ModelError: it does, and neither ``text_encoder_class`` nor ``trust_remote_code`` is set.

    """
    if (found := [*sorted(directory.rglob("*.py")), *asking_for_code(directory)]) and not allowed:
        raise ModelError(
            f"{found[0]}: asks for custom code, which is not run; set model.source.text_encoder_class to the transformers class that "
            "its weights fit (BertModel for BioViL-T), or, if you trust it, model.source.trust_remote_code=true"
        )


def load_text_encoder(directory: Path, class_name: str | None = None, *, trust_remote_code: bool = False) -> Any:
    """A transformers model that gives hidden states first, in float32.

    BERT's pooler is of no use here, and most checkpoints lack it: transformers would draw it at random on every load. It
    is zero instead, and saved, so that an export has no weights of chance and loads without a warning.

    Args:
        directory: its ``config.json`` and safetensors.
        class_name: a transformers class to load the weights as; ``AutoModel``'s choice where None. The head that a
            checkpoint has beyond it is left out.
        trust_remote_code: run the directory's own code. What is returned is the built-in model inside of it.

    Raises:
        ModelError: the class does not exist, weights are missing, or custom code is at work that cannot be left behind.

    """
    loader = getattr(transformers, class_name, None) if class_name else transformers.AutoModel
    if not hasattr(loader, "from_pretrained"):
        raise ModelError(f"model.source.text_encoder_class={class_name}: transformers has no such model; e.g. BertModel")
    options: dict[str, Any] = {"trust_remote_code": True} if trust_remote_code and not class_name else {}
    try:
        model, info = loader.from_pretrained(  # type: ignore[union-attr]
            directory, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
        )
    except Exception as error:  # the libraries raise their own
        raise ModelError(f"{directory}: cannot be loaded as model.source.text_encoder ({type(error).__name__}: {error})") from None
    missing = sorted(info["missing_keys"])
    if others := [name for name in missing if not _is_pooler(name)]:
        raise ModelError(
            f"{directory}: {len(others)} weights of {type(model).__name__} are missing ({others[0]}, ...); "
            "set model.source.text_encoder_class to the class that the weights are of, or another model.source.text_encoder"
        )
    _zero(model, missing)
    if _is_built_in(model):
        _forget_code(model.config)
        return model.eval()
    return _built_in_part(directory, model.eval())


def _is_pooler(name: str) -> bool:
    return "pooler" in name.split(".")


@torch.no_grad()
def _zero(model: Any, names: list[str]) -> None:
    parameters = dict(model.named_parameters())
    for name in names:
        parameters[name].zero_()


def _is_built_in(model: Any) -> bool:
    return type(model).__module__.partition(".")[0] == "transformers"


def _forget_code(config: Any) -> None:
    """A built-in class needs no ``auto_map``, and an export that had one would be refused by :func:`load_pipeline`."""
    if hasattr(config, "auto_map"):
        del config.auto_map
    config.model_type = type(config).model_type


@torch.no_grad()
def _built_in_part(directory: Path, model: Any) -> Any:
    """The transformers model inside a custom one, if it gives the same states: an export then needs no custom code."""
    inner = getattr(model, model.base_model_prefix, None)
    if inner is not None and inner is not model and _is_built_in(inner):
        values = {name: value for name, value in inner.config.to_dict().items() if name not in ("auto_map", "model_type", "architectures")}
        plain = type(inner)(type(inner).config_class(**values))
        missing = plain.load_state_dict(inner.state_dict(), strict=False).missing_keys
        _zero(plain, missing)
        ids = torch.arange(min(16, plain.config.vocab_size))[None]
        if all(map(_is_pooler, missing)) and torch.allclose(plain.eval()(ids)[0], model(ids, attention_mask=None)[0], atol=1e-5):
            return plain
    raise ModelError(
        f"{directory}: its code ({type(model).__name__}) does more than the transformers model inside of it, so an export could not be "
        "loaded by plain diffusers; use a text encoder of a built-in class as model.source.text_encoder"
    )


def load_tokenizer(directory: Path, encoder: Any, max_length: int | None = None, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer that goes with ``encoder``, of a built-in class, padding to ``max_length``.

    Raises:
        ModelError: it knows no words, more words than the encoder, or its length is unknown or longer than the encoder takes.

    """
    custom = "auto_map" in read_json(directory / "tokenizer_config.json")
    length = {} if max_length is None else {"model_max_length": max_length}
    as_built_in = {"tokenizer_type": encoder.config.model_type} if custom else {}
    tokenizer = _load_tokenizer(directory, **as_built_in, **length)
    if custom and trust_remote_code:
        own = _load_tokenizer(directory, trust_remote_code=True)
        if own(list(_PROBES)).input_ids != tokenizer(list(_PROBES)).input_ids:
            raise ModelError(
                f"{directory}: its code splits words in its own way, so an export could not be loaded by plain diffusers; "
                "use a tokenizer of a built-in class as model.source.tokenizer"
            )
    tokenizer.init_kwargs.pop("auto_map", None)
    _check_words(directory, tokenizer, encoder)
    _check_length(directory, tokenizer, encoder)
    return tokenizer


def _load_tokenizer(directory: Path, **options: Any) -> Any:
    try:
        return transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True, **({"trust_remote_code": False} | options))
    except Exception as error:
        raise ModelError(f"{directory}: cannot be loaded as model.source.tokenizer ({type(error).__name__}: {error})") from None


def _check_words(directory: Path, tokenizer: Any, encoder: Any) -> None:
    ids = set(tokenizer(list(_PROBES[:1]), add_special_tokens=False).input_ids[0])
    if not has_vocabulary(tokenizer) or not ids - {tokenizer.unk_token_id}:
        raise ModelError(f"{directory}: the tokenizer knows no word of {_PROBES[0]!r}; its vocabulary is missing (model.source.tokenizer)")
    if len(tokenizer) > encoder.config.vocab_size:
        raise ModelError(
            f"{directory}: the tokenizer has {len(tokenizer)} tokens, the text encoder {encoder.config.vocab_size}; "
            "set model.source.tokenizer to the one that the text encoder was trained with"
        )


def _check_length(directory: Path, tokenizer: Any, encoder: Any) -> None:
    length = tokenizer.model_max_length
    positions = getattr(encoder.config, "max_position_embeddings", None) or _LONGEST
    if not 2 < length <= min(positions, _LONGEST):
        raise ModelError(
            f"{directory}: prompts would be padded to {length if length <= _LONGEST else 'no particular length'}, where the text encoder "
            f"takes {positions}; set model.source.max_length to the number of tokens that the UNet was trained with (RadEdit: 128)"
        )
