"""Cue rewriting keeps facts and grammar; a list may hold nothing that carries a fact."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.conventions import MARK
from cxrguard.sanitizer.cues import CueRewriter
from cxrguard.sanitizer.cues.rules import canonical_rules
from cxrguard.sanitizer.cues.token_list import load_token_list
from cxrguard.sanitizer.fact_check import keeps_facts

CANONICAL = CueRewriter("canonicalize")
EXAMPLES = [pytest.param(b, a, id=f"{r.name}-{i}") for r in canonical_rules() for i, (b, a) in enumerate(r.examples)]


@pytest.mark.parametrize(("before", "after"), EXAMPLES)
def test_example(before: str, after: str) -> None:
    new, names = CANONICAL.rewrite(before)
    assert new == after
    assert bool(names) == (before != after)
    assert CANONICAL.rewrite(new) == (new, ())


@pytest.mark.parametrize("rule", canonical_rules(), ids=lambda rule: rule.name)
def test_every_rule_shows_what_it_does_and_does_something(rule: object) -> None:
    examples = rule.examples  # type: ignore[attr-defined]
    assert any(before != after and rule.name in CANONICAL.rewrite(before)[1] for before, after in examples)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "sentence",
    [
        f"No evidence of {MARK}.",
        "The right apex is not unremarkable.",
        "No evidence of it.",
        "There is no evidence that this is new.",
        "Cannot exclude pneumonia.",
        "No pneumothorax is seen but an effusion is present.",
        "Markedly enlarged heart.",
        "no",
        "",
    ],
)
def test_left_alone(sentence: str) -> None:
    assert CANONICAL.rewrite(sentence) == (sentence, ())


def test_head_tail_and_line_breaks_survive() -> None:
    assert CANONICAL.rewrite("2. There is no\nevidence of pneumothorax.\n")[0] == "2. No pneumothorax.\n"
    assert CANONICAL.rewrite("IMPRESSION: There is no evidence of edema.")[0] == "IMPRESSION: No edema."


def test_off_does_nothing() -> None:
    assert CueRewriter("off").rewrite("There is no evidence of edema.") == ("There is no evidence of edema.", ())


PARTS = [
    "No",
    "There is",
    "no evidence of",
    "a",
    "left",
    "effusion",
    "is",
    "seen",
    ",",
    ".",
    "unremarkable",
    "within normal limits",
    "the",
    "may",
    "3 mm",
]
PARTS += ["not", "and", "normal", "noted to be", "findings to suggest", MARK, "\n", "in", "An", "1."]
sentences = st.lists(st.sampled_from(PARTS), max_size=16).map(" ".join)


@given(sentences)
@settings(max_examples=400, deadline=None)
def test_idempotent_and_facts_kept(sentence: str) -> None:
    new, names = CANONICAL.rewrite(sentence)
    assert CANONICAL.rewrite(new) == (new, ())
    assert (new == sentence) == (not names)
    assert keeps_facts(sentence, new)


@pytest.mark.parametrize("part", ["no ", "no evidence of ", "there is no ", "a ", "unremarkable ", "is seen ", "limits normal "])
def test_linear_time(part: str) -> None:
    start = time.perf_counter()
    CANONICAL.rewrite((part * 2000)[:2000])
    CANONICAL.rewrite(part * 100_000)
    assert time.perf_counter() - start < 3


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


FORMATS = {
    "a.txt": "the\nwithin\tin\nat this time\n",
    "a.csv": "word,score,replacement\nthe,0.9,\nwithin,0.8,in\nat this time,0.2,\n",
    "a.jsonl": '{"token": "the", "score": 1}\n{"token": "within", "replacement": "in"}\n"at this time"\n',
    "a.json": json.dumps(["the", {"word": "within", "replacement": "in"}, "at this time"]),
}


@pytest.mark.parametrize("name", FORMATS)
def test_list_formats(tmp_path: Path, name: str) -> None:
    cues = CueRewriter(write(tmp_path / name, FORMATS[name]))
    assert cues.refused == ()
    assert cues.rewrite("The heart is normal.")[0] == "Heart is normal."
    assert cues.rewrite("The nodule is stable at this time.")[0] == "Nodule is stable."
    before, replaced = "Opacity within the left lung.", "Opacity in the left lung."
    assert replaced in {rule.apply(before) for rule in load_token_list(tmp_path / name)[0]}
    # Whether a replacement is made is the fact check's to say.
    assert cues.rewrite(before)[0] == (replaced if keeps_facts(before, replaced) else before)


@pytest.mark.parametrize(
    ("phrase", "reason"),
    [
        ("effusion", "a finding"),
        ("left", "a side"),
        ("3", "a number"),
        ("no", "a negation"),
        ("may", "a hedge"),
        ("unchanged", "a change word"),
        ("within\tno", "a negation"),
        ("zebra", "no function word"),
        ("within\tthe", "word class"),
        ("of", "no grammatical sentence"),
    ],
)
def test_refused_lines_name_file_and_line_but_not_the_phrase(
    tmp_path: Path, phrase: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "list.txt", f"the\n{phrase}\n")
    with caplog.at_level(logging.WARNING):
        cues = CueRewriter(path)
    assert len(cues.refused) == 1
    assert "list.txt, line 2" in cues.refused[0] and reason in cues.refused[0]
    assert cues.refused[0] in caplog.text
    assert cues.rewrite("The heart is normal.")[0] == "Heart is normal."
    with pytest.raises(CxrguardError, match="line 2"):
        CueRewriter(path, strict=True)


@given(st.text(alphabet="QZJ", min_size=4, max_size=12))
@settings(max_examples=40, deadline=None)
def test_no_phrase_in_a_message(tmp_path_factory: pytest.TempPathFactory, secret: str) -> None:
    folder = tmp_path_factory.mktemp("cues")
    texts = {"a.txt": secret, "a.csv": f'word\n"{secret}', "b.csv": f"{secret}\n1", "a.json": f"[{secret}]", "a.jsonl": f"{{{secret}"}
    for name, text in texts.items():
        with pytest.raises(CxrguardError) as error:
            CueRewriter(write(folder / name, text))
        assert secret not in str(error.value) and name in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "holds no phrase"),
        ("a.csv", "phrase\nthe\n", "no column 'word' or 'token'"),
        ("a.json", '{"word": "the"}', "expected a list"),
        ("a.jsonl", '"the"\n{bad\n', "line 2: not valid JSON"),
        ("a.jsonl", '{"word": 3}\n', "line 1: expected a phrase"),
        ("a.pdf", "the", "canonicalize"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(CxrguardError, match=message):
        CueRewriter(write(tmp_path / name, text))


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(CxrguardError, match="cannot be read"):
        CueRewriter(str(tmp_path / "none.txt"))
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CxrguardError, match="UTF-8"):
        CueRewriter(str(tmp_path / "b.txt"))
