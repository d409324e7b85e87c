"""The spaCy component, the object Hydra builds, the batch gate, and all real Open-I reports."""

from __future__ import annotations

import ast
import json
import os
import pickle
from pathlib import Path

import pytest
import spacy
from hydra.utils import instantiate
from omegaconf import OmegaConf
from spacy.language import Language

from cxrguard.errors import CxrguardError, ResidualMarkerError
from cxrguard.sanitizer.component import create_deid_sanitizer
from cxrguard.sanitizer.conventions import load_conventions, residual_markers
from cxrguard.sanitizer.sanitizer import PromptSanitizer

ROOT = Path(__file__).parents[3]
MARKED = "The heart is stable since ___. No ___."


def pipeline(**config: object) -> Language:
    assert create_deid_sanitizer
    nlp = spacy.blank("en")
    nlp.add_pipe("deid_sanitizer", config=config)
    return nlp


def test_component_annotates_the_doc() -> None:
    doc = pipeline(conventions=["mimic_cxr"], action="repair")(MARKED)
    assert doc.text == MARKED
    assert doc._.sanitized == "The heart is stable."
    assert doc._.sanitizer_status == "edited"
    assert [set(edit) for edit in doc._.sanitizer_edits] == [{"rule", "action", "start", "end"}] * 2
    assert ["___" in span.text for span in doc.spans["deid_markers"]] == [True, True]


@pytest.mark.parametrize("way", ["disk", "bytes", "pickle"])
def test_component_survives_saving(way: str, tmp_path: Path) -> None:
    nlp = pipeline(conventions=["open_i"], action="drop_sentence")
    if way == "disk":
        nlp.to_disk(tmp_path)
        again = spacy.load(tmp_path)
    elif way == "bytes":
        again = pipeline().from_bytes(nlp.to_bytes())
    else:
        again = pickle.loads(pickle.dumps(nlp))
    doc = again("Stable since XXXX. Clear ___.")
    assert doc._.sanitized == "Clear ___."


@pytest.mark.parametrize("config", [{"conventions": ["nope"], "action": "repair"}, {"conventions": ["open_i"], "action": "nope"}])
def test_wrong_config_is_named(config: dict[str, object]) -> None:
    with pytest.raises(CxrguardError, match="known are"):
        PromptSanitizer(**config)  # type: ignore[arg-type]


def test_result_is_in_order_and_counted() -> None:
    prompts = ["Clear.", MARKED, "___", "_" * 50_000 + " seen. Clear.", "", "A" * 2_000_000 + " ___. Clear."]
    result = PromptSanitizer(["mimic_cxr"], "repair").sanitize(prompts)
    assert result.prompts == ["Clear.", "The heart is stable.", "", "Clear.", "", "Clear."]
    assert result.statuses == ["unchanged", "edited", "emptied", "edited", "unchanged", "edited"]
    assert result.counts == {"prompts": 6, "edited": 3, "emptied": 1, "refused": 0, "residual_markers": 0}
    assert result.edits[3] == [{"rule": "no_safe_repair", "action": "drop_sentence", "start": 0, "end": 50_006}]


def test_strip_that_breaks_a_measurement_is_refused() -> None:
    result = PromptSanitizer(["mimic_cxr"], "strip").sanitize(["A mass of 3.2 x ___ cm.", "Heart ___ normal."])
    assert (result.statuses, result.prompts) == (["refused", "edited"], ["", "Heart normal."])


def test_gate_names_positions_and_never_text() -> None:
    sanitizer = PromptSanitizer(["mimic_cxr"], "repair")
    sanitizer.gate(["Clear.", ""])
    with pytest.raises(ResidualMarkerError) as error:
        sanitizer.gate(["Clear.", "Secretname ___ and ___"])
    assert "2 de-identification" in str(error.value) and "positions 1)" in str(error.value)
    assert "Secretname" not in str(error.value)


@pytest.mark.parametrize("name", ["off", "mimic_cxr", "open_i"])
def test_hydra_builds_it(name: str) -> None:
    sanitizer = instantiate(OmegaConf.load(ROOT / "conf" / "sanitizer" / f"{name}.yaml"))
    prompt = "Clear. ___ XXXX."
    assert (sanitizer.sanitize([prompt]).prompts == [prompt]) == (name == "off")
    if name == "off":
        sanitizer.gate([prompt])


def test_off_unquoted_in_yaml_is_off() -> None:
    assert PromptSanitizer(["open_i"], False).action == "off"  # type: ignore[arg-type]


def test_imports_no_torch() -> None:
    # spaCy's thinc imports torch by itself where it is installed, so ask the sources, not sys.modules.
    sources = (ROOT / "cxrguard" / "sanitizer").glob("*.py")
    imports = [n for path in sources for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert imports and not [n for n in imports if "torch" in ast.dump(n)]


def openi() -> Path:
    return Path(os.environ.get("CXRGUARD_SHARED", ROOT.parent / "shared")) / "data" / "openi" / "openi_reports.jsonl"


@pytest.mark.skipif(not openi().exists(), reason="Open-I reports not on disk")
def test_all_open_i_reports() -> None:
    rows = [json.loads(line) for line in openi().read_text(encoding="utf-8").splitlines()]
    prompts = [f"FINDINGS: {row['findings'] or ''}\nIMPRESSION: {row['impression'] or ''}" for row in rows]
    sanitizer, conventions = PromptSanitizer(["open_i"], "repair"), load_conventions(["open_i"])
    result = sanitizer.sanitize(prompts)
    again = sanitizer.sanitize(result.prompts)
    marked = [residual_markers(prompt, conventions) > 0 for prompt in prompts]
    # Lists of row numbers, so that a failure prints no report.
    assert [i for i, text in enumerate(result.prompts) if residual_markers(text, conventions)] == []
    assert [i for i, (a, b) in enumerate(zip(result.prompts, again.prompts, strict=True)) if a != b] == []
    assert [i for i, m in enumerate(marked) if not m and result.prompts[i] != prompts[i]] == []
    assert sum(marked) > 1000
    assert result.counts["refused"] == 0
    assert result.counts["emptied"] < 0.02 * len(prompts)
