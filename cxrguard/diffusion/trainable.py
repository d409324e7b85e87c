"""Which weights are trained: all, named subsets, or low-rank adapters beside the frozen ones."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from cxrguard.errors import CxrguardError
from cxrguard.randomness import derive_seed

SUBSETS: dict[str, Callable[[str, nn.Module], bool]] = {
    "attention": lambda name, _: bool(re.search(r"\.attn[12]\.|self_attn|\.attention\.", name)),
    "cross_attention": lambda name, _: ".attn2." in name,
    "norms": lambda _, owner: isinstance(owner, (nn.GroupNorm, nn.LayerNorm)),
    "biases": lambda name, _: name.endswith(".bias"),
}
"""Named subsets by (parameter's name, module that owns it); what MemControl (Dutt et al., WACV 2025) searches over."""

# The attention's projections as diffusers' UNets, CLIP and BERT name them; of diffusers those of its own LoRA examples.
_LORA_TARGETS = (
    ("to_q", "to_k", "to_v", "to_out.0"),
    ("q_proj", "k_proj", "v_proj", "out_proj"),
    ("query", "key", "value"),
)


def make_trainable(model: Any, what: str | Sequence[str], key: str, *, rank: int = 8, alpha: float = 8.0, seed: int = 0) -> None:
    """Freeze ``model`` but for the weights that are asked for.

    Args:
        model: a diffusers UNet or a transformers text encoder; changed in place.
        what: ``full``, ``frozen``, ``lora``, a name in :data:`SUBSETS`, or regular expressions that are searched for in the
            parameters' names.
        key: the configuration's key, for messages.
        rank: of the adapters.
        alpha: the adapters' output is scaled by alpha / rank (Hu et al., ICLR 2022, section 4.1).
        seed: of the adapters' first weights.

    Raises:
        CxrguardError: ``what`` is unknown, or names no parameter.

    """
    check_asked(what, key)
    model.requires_grad_(False)
    if what == "frozen":
        return
    if what == "lora":
        _add_adapter(model, key, rank, alpha, seed)
        return
    # BERT's pooler has no part in the hidden states: it would get no gradient, which DDP takes for an error.
    chosen = [p for p, name, owner in _named(model) if "pooler." not in name and _asked_for(what, name, owner)]
    if not chosen:
        raise CxrguardError(f"{key}={what}: names no parameter of {type(model).__name__}")
    for parameter in chosen:
        parameter.requires_grad_(True)


def _named(model: nn.Module) -> list[tuple[nn.Parameter, str, nn.Module]]:
    return [
        (parameter, f"{path}.{name}".lstrip("."), owner)
        for path, owner in model.named_modules()
        for name, parameter in owner.named_parameters(recurse=False)
    ]


def check_asked(what: str | Sequence[str], key: str) -> None:
    """Refuse what is neither a known name nor a list of regular expressions; see :func:`make_trainable`.

    Raises:
        CxrguardError: it is neither.

    """
    if isinstance(what, str):
        known = ("full", "frozen", "lora", *SUBSETS)
        if what not in known:
            raise CxrguardError(f"{key}={what}: is none of {', '.join(known)}, and no list of regular expressions")
        return
    for pattern in what:
        try:
            re.compile(pattern)
        except re.error as error:
            raise CxrguardError(f"{key}: {pattern!r} is no regular expression ({error.msg})") from None


def _asked_for(what: str | Sequence[str], name: str, owner: nn.Module) -> bool:
    if isinstance(what, str):
        return what == "full" or SUBSETS[what](name, owner)
    return any(re.search(pattern, name) for pattern in what)


def _add_adapter(model: Any, key: str, rank: int, alpha: float, seed: int) -> None:
    if rank < 1:
        raise CxrguardError(f"the rank of LoRA must be at least 1, not {rank}; set model.module.lora_rank")
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    targets = next((t for t in _LORA_TARGETS if any(name.endswith(t) for name in names)), None)
    if targets is None:
        raise CxrguardError(f"{key}=lora: {type(model).__name__} has no attention that is known; train named parameters instead")
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights="gaussian")
    with torch.random.fork_rng(devices=[]):  # peft draws from the global state
        torch.manual_seed(derive_seed("lora", key, seed))
        model.add_adapter(config)


def has_adapter(model: nn.Module) -> bool:
    """Whether low-rank adapters are in the model."""
    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


def merged(model: Any) -> Any:
    """The model with its adapters added into the weights, as a plain one; a copy, or the model itself if it has none."""
    if not has_adapter(model):
        return model
    plain = copy.deepcopy(model)
    for path, layer in [(p, m) for p, m in plain.named_modules() if isinstance(m, BaseTunerLayer)]:
        layer.merge()
        parent, _, name = path.rpartition(".")
        setattr(plain.get_submodule(parent), name, layer.get_base_layer())
    # What peft's integrations left: with it save_pretrained would save adapters that are no more.
    plain.__dict__.pop("peft_config", None)
    plain._hf_peft_config_loaded = False
    return plain
