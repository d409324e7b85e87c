"""Custom code of a text encoder: run on explicit opt-in only, and never needed by what is exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_parts import edit_json, refusal

from cxrguard.diffusion.encoding import encode_prompts
from cxrguard.diffusion.export import export_pipeline
from cxrguard.diffusion.loading import PipelineParts, load_pipeline

PROMPTS = ["PA view. Moderate left pleural effusion.", "AP view. No pneumothorax."]

MODELING = """
from pathlib import Path
from transformers import BertConfig, BertForMaskedLM, BertTokenizer
Path({trace!r}).touch()
class OwnConfig(BertConfig):
    model_type = "own-bert"
class OwnModel(BertForMaskedLM):
    config_class = OwnConfig
    def forward(self, input_ids, attention_mask=None, **kwargs):
        out = super().forward(input_ids, attention_mask=attention_mask, output_hidden_states=True)
        return (out.hidden_states[-1]{change}, out.logits)
class OwnTokenizer(BertTokenizer):
    def __call__(self, text, **kwargs):
        return super().__call__({words}, **kwargs)
"""


def add_code(source: dict[str, Any], change: str = "", words: str = "text") -> Path:
    """Make the text encoder one like BioViL-T's, with code of its own; returns what that code leaves behind when it runs."""
    directory = Path(source["text_encoder"])
    (directory / "own.py").write_text(MODELING.format(trace=str(directory.parent / "ran"), change=change, words=words))
    own = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    edit_json(directory / "config.json", lambda c: c.update(auto_map=own, model_type="own-bert", architectures=["OwnModel"]))
    edit_json(directory / "tokenizer_config.json", lambda c: c.update(auto_map={"AutoTokenizer": ["own.OwnTokenizer", None]}))
    return directory.parent / "ran"


@pytest.fixture
def dynamic_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where transformers copies the code that it runs."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))


def test_custom_code_is_refused_unless_opted_into(source: dict[str, Any]) -> None:
    ran = add_code(source)
    message = refusal(source)
    assert "own.py" in message and "text_encoder_class" in message and "trust_remote_code=true" in message
    (Path(source["text_encoder"]) / "own.py").unlink()
    assert "config.json: asks for custom code" in refusal(source)
    assert not ran.exists()


def test_a_built_in_class_needs_no_custom_code(source: dict[str, Any], assembled: PipelineParts, tmp_path: Path) -> None:
    ran = add_code(source)
    parts = load_pipeline(source | {"text_encoder_class": "BertModel"})
    assert type(parts.text_encoder).__module__.startswith("transformers.") and not ran.exists()
    assert torch.equal(encode_prompts(parts, PROMPTS), encode_prompts(assembled, PROMPTS))
    export_pipeline(parts, tmp_path / "out")
    assert torch.equal(encode_prompts(load_pipeline(str(tmp_path / "out")), PROMPTS), encode_prompts(assembled, PROMPTS))


@pytest.mark.usefixtures("dynamic_modules")
def test_code_that_was_opted_into_runs_and_is_left_behind(source: dict[str, Any], assembled: PipelineParts, tmp_path: Path) -> None:
    ran = add_code(source)
    parts = load_pipeline(source | {"trust_remote_code": True})
    assert ran.exists() and type(parts.text_encoder).__name__ == "BertModel"
    assert torch.allclose(encode_prompts(parts, PROMPTS), encode_prompts(assembled, PROMPTS), atol=1e-6)
    export_pipeline(parts, tmp_path / "out")
    assert torch.equal(encode_prompts(load_pipeline(str(tmp_path / "out")), PROMPTS), encode_prompts(parts, PROMPTS))


@pytest.mark.usefixtures("dynamic_modules")
def test_code_that_cannot_be_left_behind_is_refused(source: dict[str, Any]) -> None:
    add_code(source, change=" * 2")
    message = refusal(source | {"trust_remote_code": True})
    assert "OwnModel" in message and "plain diffusers" in message


@pytest.mark.usefixtures("dynamic_modules")
def test_a_tokenizer_that_cannot_be_left_behind_is_refused(source: dict[str, Any]) -> None:
    add_code(source, words="[t[::-1] for t in text]")
    message = refusal(source | {"trust_remote_code": True})
    assert "splits words in its own way" in message and "plain diffusers" in message


@pytest.mark.parametrize("place", ["radedit/unet/evil.py", "vae/evil.py"])
def test_code_beside_unet_and_vae_is_refused_even_so(source: dict[str, Any], tmp_path: Path, place: str) -> None:
    (tmp_path / place).write_text("raise SystemExit")
    assert "custom code (evil.py)" in refusal(source | {"trust_remote_code": True})
