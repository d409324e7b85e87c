"""The sections of a report, by rule and by property."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrguard.data.report_sections import PROMPTS, Section, choose_prompt, normalise_name, split_sections

REPORT = (
    "                                 FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n \n"
    " INDICATION:  ___ year old woman with cough  // evaluate for pneumonia\n \n COMPARISON:  ___\n \n"
    " FINDINGS: \n \n The lungs are clear.  Time: 10:30.\n \n No effusion.\n \n IMPRESSION: \n \n No acute\n disease.\n"
)
TITLE_ONLY = " FINAL REPORT\n CHEST RADIOGRAPH\n \n The heart is large.\n \n No effusion.\n"


def names(report: str) -> list[str]:
    return [section.name for section in split_sections(report)]


def test_a_report_in_the_data_sets_form() -> None:
    assert names(REPORT) == ["preamble", "examination", "indication", "comparison", "findings", "impression"]
    assert choose_prompt(REPORT, "impression") == "No acute disease."
    assert choose_prompt(REPORT, "findings") == "The lungs are clear. Time: 10:30. No effusion."
    assert choose_prompt(REPORT, "both") == "The lungs are clear. Time: 10:30. No effusion.\nNo acute disease."


def test_without_headers_the_last_paragraph_is_all_after_the_first_blank_line() -> None:
    assert names(TITLE_ONLY) == ["full report", "last_paragraph"]
    assert {choose_prompt(TITLE_ONLY, prompt) for prompt in PROMPTS} == {"The heart is large. No effusion."}
    below = "\n INDICATION: Cough.\n \n COMPARISON: None.\n \n Clear lungs.\n"
    assert names(below) == ["preamble", "indication", "comparison", "last_paragraph"]
    assert choose_prompt(below, "findings") == "Clear lungs."


@pytest.mark.parametrize("report", ["", " ", "\n", "Clear lungs.", "\n INDICATION: Cough.\n", "\n IMPRESSION: \n", " A\n \n  \n"])
def test_what_has_no_prompt(report: str) -> None:
    assert [choose_prompt(report, prompt) for prompt in PROMPTS] == ["", "", ""]


def test_the_last_impression_counts_and_empty_ones_do_not() -> None:
    twice = "\n IMPRESSION: Old.\n \n FINDINGS: Seen.\n \n IMPRESSION: New.\n"
    assert choose_prompt(twice, "impression") == "New." and choose_prompt(twice, "both") == "Seen.\nNew."
    emptied = twice + " \n IMPRESSION: \n \n FINDINGS: \n"
    assert choose_prompt(emptied, "impression") == "New." and choose_prompt(emptied, "findings") == "Seen."


def test_each_choice_falls_back_on_the_other() -> None:
    assert choose_prompt("\n IMPRESSION: Clear.\n", "findings") == "Clear." == choose_prompt("\n IMPRESSION: Clear.\n", "both")
    assert choose_prompt("\n FINDINGS: Clear.\n", "impression") == "Clear." == choose_prompt("\n FINDINGS: Clear.\n", "both")
    with pytest.raises(ValueError, match="prompt"):
        choose_prompt("", "annotated")


@pytest.mark.parametrize(
    "text", ["IMPRESSION: no newline", "\nIMPRESSION: no space", "\n Impression: no capitals", "\n IMPRESSION no colon", "\n IMPRESSION:x"]
)
def test_what_is_no_header(text: str) -> None:
    assert names(text) == ["full report"]


def test_a_headers_own_line_holds_no_second_header() -> None:
    assert names("\n FINDINGS: \n IMPRESSION: Clear.") == ["preamble", "impression"]
    assert split_sections("\n FINDINGS:\n IMPRESSION: Clear.") == [Section("preamble", "\n "), Section("findings", " IMPRESSION: Clear.")]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (" CONCLUSION", "impression"),
        ("IMPRESSON", "impression"),
        ("FINDINGS/IMPRESSION", "impression"),
        ("FINDINGS AND IMPRESSION", "impression"),
        ("PRELIMINARY IMPRESSION", "impression"),
        ("FINDINS", "findings"),
        ("CHEST, TWO VIEWS", "findings"),
        ("PORTABLE SEMI-UPRIGHT", "findings"),
        ("PA AND LATERAL VIEWS OF THE CHEST", "findings"),
        ("CHEST FINDINGS", "findings"),
        ("REASON FOR EXAM", "indication"),
        ("COMPARISONS", "comparison"),
        ("COMPARISON CHEST FILM", "comparison"),
        ("PATIENT HISTORY", "history"),
        ("ADDENDUM BY", "addendum"),
        ("RECOMMENDATION(S)", "recommendations"),
        ("WETREAD", "wet read"),
        ("EXAM", "examination"),
        ("TECHNIQUE", "technique"),
        ("DOSE", "dose"),
    ],
)
def test_names_are_normalised(header: str, name: str) -> None:
    assert normalise_name(header) == name


def test_a_section_does_not_show_its_text() -> None:
    assert "secret" not in repr(split_sections("\n FINDINGS: secret"))


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1).filter(lambda text: text.strip())
HEADED = st.tuples(st.sampled_from(["EXAMINATION", "INDICATION", "COMPARISON", "FINDINGS", "IMPRESSION"]), WORDS)


@given(st.lists(HEADED, min_size=1, max_size=8))
def test_sections_put_together_come_apart_again(parts: Sequence[tuple[str, str]]) -> None:
    report = " FINAL REPORT" + "".join(f"\n {name}: \n \n {text}\n" for name, text in parts)
    found = [s for s in split_sections(report) if s.name not in ("preamble", "last_paragraph")]
    assert [s.name for s in found] == [name.lower() for name, _ in parts]
    for main in ("impression", "findings"):
        texts = [" ".join(text.split()) for name, text in parts if name.lower() == main]
        if texts:
            assert choose_prompt(report, main) == texts[-1]


PIECES = st.one_of(st.sampled_from(["\n ", "\n \n", "\n", "\r\n", ": ", "FINDINGS", "IMPRESSION:", "CHEST (PA)", " "]), st.text(max_size=9))


@given(st.lists(PIECES, max_size=30).map("".join), st.sampled_from(PROMPTS))
def test_any_text_yields_its_own_words_a_section_a_line(report: str, prompt: str) -> None:
    sections = split_sections(report)
    whole = report.replace("\r\n", "\n").replace("\r", "\n")
    assert sections and all(s.text in whole for s in sections)
    chosen = choose_prompt(report, prompt)
    assert chosen == "\n".join(" ".join(line.split()) for line in chosen.splitlines())
    if prompt != "both":
        assert chosen in " ".join(report.split())


@given(st.lists(PIECES.filter(lambda piece: "\r" not in piece), max_size=30).map("".join), st.sampled_from(PROMPTS))
def test_windows_line_ends_and_trailing_space_change_nothing(report: str, prompt: str) -> None:
    chosen = choose_prompt(report + "\n", prompt)
    assert choose_prompt((report + "\n").replace("\n", "\r\n"), prompt) == chosen
    assert choose_prompt(report + "\n\n", prompt) == chosen


@pytest.mark.parametrize("piece", ["\n A", "\n A: ", "A", "\n ", "\n FINDINGS: \n", "\n \n"])
def test_hostile_reports_take_linear_time(piece: str) -> None:
    report = "\n " + piece * (1_000_000 // len(piece))
    start = time.process_time()
    choose_prompt(report, "impression")
    assert time.process_time() - start < 20
