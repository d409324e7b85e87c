"""The object Hydra builds: prompts in, prompts and counts out; the batch gate; all real Open-I reports."""

from __future__ import annotations

import ast
import inspect
import json
import os
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
import spacy
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from cxrguard.errors import CxrguardError, ResidualMarkerError
from cxrguard.sanitizer.pipeline import Sanitized, TextSanitizer
from cxrguard.sanitizer.sanitizer import PromptSanitizer
from cxrguard.sanitizer.settings import ACTIONS, SanitizerSettings

ROOT = Path(__file__).parents[3]
MARKED = "The heart is stable since ___. No ___."
CONFIGS = ("off", "mimic_cxr", "open_i", "auto", "strict")


def answer(monkeypatch: pytest.MonkeyPatch, text: str, status: str = "edited") -> list[str]:
    """From here on the core answers every text so; returns the texts it is asked, as they come."""
    asked: list[str] = []

    def sanitize(self: TextSanitizer, original: str) -> Sanitized:
        asked.append(original)
        return Sanitized(text, status)

    monkeypatch.setattr(TextSanitizer, "sanitize", sanitize)
    return asked


def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        found = compose("config", list(overrides)).sanitizer
    assert isinstance(found, DictConfig)
    return found


def test_result_is_in_order_and_counted() -> None:
    prompts = ["Clear.", MARKED, "___", "_" * 50_000 + " seen. Clear.", "", "A" * 2_000_000 + " ___. Clear.", MARKED]
    result = PromptSanitizer(["mimic_cxr", "open_i"]).sanitize(prompts)
    assert result.prompts == ["Clear.", "The heart is stable.", "", "Clear.", "", "Clear.", "The heart is stable."]
    assert result.statuses == ["unchanged", "edited", "emptied", "edited", "unchanged", "edited", "edited"]
    whole = {"prompts": 7, "edited": 4, "emptied": 1, "refused": 0, "residual_markers": 0}
    assert {name: result.counts[name] for name in whole} == whole
    assert result.counts["by_convention"] == {"mimic_cxr": 7}
    assert sum(result.counts["by_rule"].values()) == sum(len(edits) for edits in result.edits) > 0
    assert [bool(edits) for edits in result.edits] == [status != "unchanged" for status in result.statuses]
    spans = [(int(edit["start"]), int(edit["end"]), len(p)) for p, edits in zip(prompts, result.edits, strict=True) for edit in edits]
    assert all(0 <= start < end <= length for start, end, length in spans)


def test_a_report_text_stays_out_of_the_repr() -> None:
    sanitizer = PromptSanitizer(["mimic_cxr"])
    result = sanitizer.sanitize(["Quokka is stable since ___."])
    assert "Quokka" in result.prompts[0] and "Quokka" not in repr(result) + repr(sanitizer) + repr(vars(result)["counts"])


def test_the_same_as_the_component() -> None:
    prompts = [
        MARKED,
        "A 3.2 x ___ cm mass.\nNo ___.",
        "Dr. ___ was paged at ___:___.",
        "  ___  ",
        "Größe ___, 「___」 ok.",
        "No\t___\r\nedema",
    ]
    nlp = spacy.blank("en")
    nlp.add_pipe("deid_sanitizer", config={"conventions": ["mimic_cxr"]})
    result = PromptSanitizer(["mimic_cxr"]).sanitize(prompts)
    by_nlp = [(doc._.sanitized, doc._.sanitizer_status, doc._.sanitizer_edits) for doc in nlp.pipe(prompts)]
    assert list(zip(result.prompts, result.statuses, result.edits, strict=True)) == by_nlp


@pytest.mark.parametrize(
    "prompts",
    [
        ["_" * 1_000_000],
        ["[**" * 333_000],
        ["(" * 500_000 + "___" + ")" * 500_000],
        ["No ___. " * 125_000],
        [f"{i} " + "_" * 97 for i in range(10_000)],
        ["(" * 15 + " ___ " + "-" * 15 + str(i) for i in range(10_000)],
        ["A lone \ud83d surrogate since ___."],
    ],
    ids=["underscores", "stars", "brackets", "sentences", "many runs", "many short runs", "lone surrogate"],
)
def test_hostile_prompts_take_no_more_than_their_length(prompts: list[str]) -> None:
    sanitizer = PromptSanitizer(["auto"])
    start = time.process_time()
    result = sanitizer.sanitize(prompts)
    # Two seconds is the target on an idle machine for one prompt; quadratic ones take minutes.
    assert time.process_time() - start < (5 if len(prompts) == 1 else 20)
    assert result.counts["residual_markers"] == 0


def test_a_prompt_that_occurs_twice_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, "Clear.")
    sanitizer = PromptSanitizer(["mimic_cxr"])
    assert sanitizer.sanitize([MARKED, "Fine.", MARKED]).prompts == ["Clear.", "Fine.", "Clear."]
    assert sanitizer.sanitize([MARKED]).counts["edited"] == 1
    assert asked == [MARKED]


def test_an_answer_cannot_be_changed_from_outside() -> None:
    sanitizer = PromptSanitizer(["mimic_cxr"])
    sanitizer.sanitize([MARKED]).edits[0].clear()
    assert sanitizer.sanitize([MARKED]).edits[0]


def test_a_worker_gets_no_report_text() -> None:
    sanitizer = PromptSanitizer(["mimic_cxr"])
    sanitizer.sanitize(["Quokka is stable since ___."])
    stored = pickle.dumps(sanitizer)
    assert b"Quokka" not in stored
    with pytest.raises(ResidualMarkerError):
        pickle.loads(stored).gate(["No ___."])


@pytest.mark.parametrize(("setting", "value"), [("cues", "canonicalize"), ("priors", "drop")])
def test_cues_and_priors_see_every_prompt(monkeypatch: pytest.MonkeyPatch, setting: str, value: str) -> None:
    asked = answer(monkeypatch, "Clear.")
    for action, seen in (("repair", ["No edema.", MARKED]), ("off", ["No edema.", MARKED])):
        asked.clear()
        PromptSanitizer(["mimic_cxr"], action, **{setting: value}).sanitize(["No edema.", MARKED])  # type: ignore[arg-type]
        assert asked == seen
    asked.clear()
    PromptSanitizer(["mimic_cxr"]).sanitize(["No edema.", MARKED])
    assert asked == [MARKED]


def test_a_refusal_is_dropped_and_counted_or_raised_by_position(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "", "refused")
    prompts = ["Clear.", "Quokka ___.", "Clear.", "Quokka ___."]
    result = PromptSanitizer(["mimic_cxr"]).sanitize(prompts)
    assert (result.prompts, result.counts["refused"]) == (["Clear.", "", "Clear.", ""], 2)
    with pytest.raises(CxrguardError, match=r"refused 2 of 4 prompts \(positions 1, 3\)") as error:
        PromptSanitizer(["mimic_cxr"], on_refused="raise").sanitize(prompts)
    assert "Quokka" not in str(error.value)


def test_what_an_action_writes_must_not_be_a_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "Quokka XXXX.")
    with pytest.raises(ResidualMarkerError, match=r"1 of 2 prompts \(positions 1\).*action surrogate") as error:
        PromptSanitizer(["open_i"], "surrogate").sanitize(["Clear.", "Quokka xxxx."])
    assert "Quokka" not in str(error.value)
    with pytest.raises(CxrguardError, match="Leave surrogates out"):
        PromptSanitizer(["auto", "surrogates"], "surrogate")


def test_off_counts_and_changes_nothing() -> None:
    sanitizer = PromptSanitizer(["mimic_cxr"], "off")
    result = sanitizer.sanitize([MARKED, "Clear.", MARKED])
    assert (result.prompts, set(result.statuses)) == ([MARKED, "Clear.", MARKED], {"unchanged"})
    assert result.counts == {
        "prompts": 3,
        "edited": 0,
        "emptied": 0,
        "refused": 0,
        "residual_markers": 4,
        "by_rule": {},
        "by_convention": {"mimic_cxr": 4},
    }
    sanitizer.gate([MARKED])


def test_gate_names_positions_and_never_text() -> None:
    sanitizer = PromptSanitizer(["mimic_cxr"])
    sanitizer.gate(["Clear.", "", "Seen by Dr. Miller on 3/4/2020."])
    with pytest.raises(ResidualMarkerError) as error:
        sanitizer.gate(["Clear.", "Secretname ___ and ___"])
    assert "2 de-identification" in str(error.value) and "positions 1)" in str(error.value)
    assert "Secretname" not in str(error.value)


def test_the_gate_knows_the_conventions_that_were_asked_for() -> None:
    dated = "Seen by Dr. Miller on 3/4/2020."
    with pytest.raises(ResidualMarkerError):
        PromptSanitizer(["mimic_cxr", "surrogates"]).gate([dated])
    PromptSanitizer(["auto"]).gate([dated])


def test_unquoted_off_in_yaml_is_off() -> None:
    values: dict[str, Any] = yaml.safe_load("conventions: [open_i]\naction: off\ncues: off")
    assert values["action"] is False
    assert PromptSanitizer(**values).settings == SanitizerSettings(("open_i",), "off", "off")


@pytest.mark.parametrize("name", CONFIGS)
def test_each_configuration_spells_every_knob_out(name: str) -> None:
    composed = config(f"sanitizer={name}")
    assert set(composed) == {"_target_", *inspect.signature(PromptSanitizer).parameters}
    assert composed.cache_dir is None
    sanitizer = instantiate(composed)
    prompts = ["The heart is stable since ___.", "The heart is stable since XXXX.", "The heart is stable since 3/4/2020."]
    changed = [new != old for new, old in zip(sanitizer.sanitize(prompts).prompts, prompts, strict=True)]
    expected = {"off": "000", "mimic_cxr": "100", "open_i": "010", "auto": "110", "strict": "111"}[name]
    assert "".join(str(int(c)) for c in changed) == expected


def test_there_is_a_test_for_each_configuration() -> None:
    assert {path.stem for path in (ROOT / "conf" / "sanitizer").glob("*.yaml")} == set(CONFIGS)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_sweep_may_name_every_action(action: str) -> None:
    sanitizer = instantiate(config("sanitizer=auto", f"sanitizer.action={action}", "sanitizer.seed=3"))
    assert (sanitizer.settings.action, sanitizer.settings.seed) == (action, 3)
    prompts = [f"The heart is stable since ___. No {word}. Lungs are clear." for word in ("edema", "XXXX", "effusion", "[**Name**]")]
    result = sanitizer.sanitize(prompts)
    assert (result.prompts == prompts) == (action == "off")
    assert (result.counts["residual_markers"] > 0) == (action == "off")
    # Neither the order nor the company of a prompt decides what becomes of it.
    again = instantiate(config("sanitizer=auto", f"sanitizer.action={action}", "sanitizer.seed=3"))
    assert again.sanitize(prompts[::-1]).prompts == result.prompts[::-1]
    assert again.sanitize(prompts[2:3]).prompts == result.prompts[2:3]
    sanitizer.gate(result.prompts)


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("conventions=[mimic_cxr,tags]", "conventions", ("mimic_cxr", "tags")),
        ("conventions=auto", "conventions", ("auto",)),
        ("cues=canonicalize", "cues", "canonicalize"),
        ("cues=off", "cues", "off"),
        ("priors=drop", "priors", "drop"),
        ("on_refused=raise", "on_refused", "raise"),
        ("complete=false", "complete", False),
        ("seed=5", "seed", 5),
    ],
)
def test_a_sweep_may_set_every_knob(override: str, field: str, value: object) -> None:
    assert getattr(instantiate(config(f"sanitizer.{override}")).settings, field) == value


def test_a_cache_may_lie_under_the_data(tmp_path: Path) -> None:
    # Composed here: an interpolation is resolved only where the whole configuration is at hand.
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        sanitizer = instantiate(compose("config", [f"data.root={tmp_path}", "sanitizer.cache_dir=${data.root}/cache"]).sanitizer)
    sanitizer.sanitize([MARKED])
    assert list((tmp_path / "cache").glob("*.sqlite"))


@pytest.mark.parametrize("wrong", [{"conventions": ["nope"]}, {"action": "nope"}, {"priors": "nope"}, {"on_refused": "nope"}])
def test_wrong_settings_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(CxrguardError, match=r"'nope'.*known are"):
        PromptSanitizer(**{"conventions": ["open_i"]} | wrong)


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
    sanitizer, core = PromptSanitizer(["open_i"]), TextSanitizer(SanitizerSettings(("open_i",)))
    result = sanitizer.sanitize(prompts)
    again = sanitizer.sanitize(result.prompts)
    marked = [core.residual(prompt) > 0 for prompt in prompts]
    # Lists of row numbers, so that a failure prints no report.
    assert [i for i, text in enumerate(result.prompts) if core.residual(text)] == []
    assert [i for i, (a, b) in enumerate(zip(result.prompts, again.prompts, strict=True)) if a != b] == []
    assert [i for i, m in enumerate(marked) if not m and result.prompts[i] != prompts[i]] == []
    assert sum(marked) > 1000
    # Counted first: pytest shows what stands in an assertion.
    n, refused, emptied = len(prompts), result.counts["refused"], result.counts["emptied"]
    assert refused <= 0.01 * n
    assert emptied < 0.02 * n


def test_forgotten_prompts_are_computed_again_to_the_same() -> None:
    sanitizer = PromptSanitizer(["mimic_cxr"])
    before = sanitizer.sanitize(["Compared to ___, unchanged.", "Clear."])
    assert sanitizer._memory
    sanitizer.forget()
    assert not sanitizer._memory and sanitizer.sanitize(["Compared to ___, unchanged.", "Clear."]) == before
