"""Repair on hard cases: what must come out, and what must never."""

from __future__ import annotations

import time

import pytest

from cxrguard.sanitizer.conventions import load_conventions
from cxrguard.sanitizer.pipeline import Sanitized, sanitize_text
from cxrguard.sanitizer.segments import split_pieces
from cxrguard.sanitizer.tidying import takes_an

CONVENTIONS = load_conventions(["mimic_cxr", "open_i"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("No ___. Pneumothorax on the left", "Pneumothorax on the left"),
        ("No ___, and there is a left pneumothorax.", "There is a left pneumothorax."),
        ("An ___ year old woman with cough.", "A woman with cough."),
        ("___-year-old male.", "Male."),
        ("Compared with the prior study from ___ at 9:30, no change.", "No change."),
        ("Since ___, the effusion has resolved.", "The effusion has resolved."),
        ("In comparison with\nthe study of ___, there\nis no change.", "There is no change."),
        ("Mr. ___'s lungs are clear.", "The lungs are clear."),
        ("Line placed by Dr. ___. Clear lungs.", "Line. Clear lungs."),
        ("Findings discussed with Dr ___ at ___ by phone at 5 p.m. Clear lungs.", "Clear lungs."),
        ("FINDINGS: ___.\nIMPRESSION: No effusion.", "IMPRESSION: No effusion."),
        ("INDICATION: ___.\nFINDINGS: Clear lungs.", "FINDINGS: Clear lungs."),
        ("1. ___.\n2. No effusion.\n3. ___.", "1. No effusion."),
        ("The effusion is stable; the ___ is not.", "The effusion is stable."),
        ("Respiratory ＿＿＿. Clear lungs.", "Clear lungs."),
        ("Clear lungs. 53XXXX seen.", "Clear lungs."),
        ("No ___ pneumothorax.", "No pneumothorax."),
        ("Measures 3.2 x ___ cm.", "Measures 3.2 cm."),
        ("No evidence of ___ or effusion.", "No evidence of effusion."),
        ("No effusion compared to ___, pneumothorax is stable.", "No effusion, pneumothorax is stable."),
        ("XXXX atelectasis versus infiltrate.", "Atelectasis versus infiltrate."),
        ("Opacity, XXXX represent pneumonia.", "Opacity."),
        ("A 5 ___ catheter.", "A catheter."),
        ("The heart and pulmonary XXXX are normal.", "The heart is normal."),
        ("No ___\nPneumothorax on the left.", "Pneumothorax on the left."),
        ("No XXXX of a pleural effusion.", "No signs of a pleural effusion."),
        ("1. ___.\n2. No effusion.\n3. Left mass.", "1. No effusion.\n2. Left mass."),
    ],
)
def test_repaired(before: str, after: str) -> None:
    assert sanitize_text(before, CONVENTIONS).text == after


@pytest.mark.parametrize(
    "sentence",
    [
        "No nodule larger than ___ mm.",
        "No ___ mm nodule.",
        "Possible ___; edema.",
        "Suspicious for ___.",
        "No comparison chest x-XXXX XXXX lungs.",
    ],
)
def test_unsafe_sentence_goes_whole(sentence: str) -> None:
    assert sanitize_text(f"Clear right lung. {sentence} Heart is normal.", CONVENTIONS).text == "Clear right lung. Heart is normal."


@pytest.mark.parametrize("text", ["", "  two  blanks ,, kept\r\n", "47,XXX", "view_position", "A. b? C!\n\n1. x", "\ue0ff"])
def test_unmarked_is_byte_identical(text: str) -> None:
    for action in ("repair", "drop_sentence", "strip", "fill", "randomize"):
        assert sanitize_text(text, CONVENTIONS, action) == Sanitized(text, "unchanged")


def test_offsets_point_into_the_original() -> None:
    text = "Clear. " + "_" * 50 + "F with cough. The heart is stable since ______. XXXX is seen."
    edits = sanitize_text(text, CONVENTIONS).edits
    assert [text[e.start : e.end][-10:] for e in edits] == ["ith cough.", "ce ______.", "X is seen."]
    assert text[edits[0].start] == "_" and edits[0].start == 7


@pytest.mark.parametrize("action", ["repair", "fill", "randomize"])
def test_no_word_is_written_where_none_may_be(action: str) -> None:
    text = "No XXXX of a pleural effusion. A mass of 3.2 x ___ cm with lymph XXXX ___ mm."
    assert "nodes" not in sanitize_text(text, CONVENTIONS, action, complete=False).text
    assert "signs" not in sanitize_text(text, CONVENTIONS, action, complete=False).text


@pytest.mark.parametrize("text", ["A b. C d", "FINDINGS: x.\n\n  y", " lead. 1. One.\n2. Two ", "", "\n"])
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(piece.text for piece in split_pieces(text)) == text


@pytest.mark.parametrize(
    "text",
    ["_" * 10**6, "_ " * 500_000, "No ___" + " " * 10**6 + "c.", "___" + "\n " * 300_000 + "x", "compared to " + "the " * 250_000 + "___."],
    ids=["run", "spaced", "blanks", "lines", "words"],
)
def test_a_megabyte_takes_seconds(text: str) -> None:
    start = time.perf_counter()
    sanitize_text(text, CONVENTIONS)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("word", ["initial", "unusual", "unimpressive", "upper", "8", "11", "18th", "MRI", "X"])
def test_an(word: str) -> None:
    assert takes_an(word)


@pytest.mark.parametrize("word", ["unilateral", "uniform", "usual", "ureteral", "one-sided", "euthyroid", "110", "CT"])
def test_a(word: str) -> None:
    assert not takes_an(word)
