"""What is a marker and what is not, offsets, hostile input, and a user's own convention file."""

from __future__ import annotations

import pickle
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.conventions import (
    MARK,
    collapse,
    counts,
    find_markers,
    has_marker,
    known_conventions,
    load_convention,
    load_conventions,
    residual_markers,
)

AUTO = load_conventions(["auto"])
ALL = load_conventions(known_conventions())

MARKERS = {
    "mimic_cxr": ["__", "___", "_" * 40, "_ _ _", "＿＿", "＿ ＿", r"\_\_\_", "_\u200b_"],
    "mimic_iii": [
        "[**2151-7-16**]", "[**Hospital1 **]", "[**Known lastname 123**]", "[**Age over 90 **]", "[**Last Name (un) 123**]",
        "[**Month\n(only) **]", "[ ** 2151 ** ]", "[**First Name8 (NamePattern2) 18**]", "[****]", "[*2151-7-16*]",
    ],
    "open_i": ["XXXX", "xxxx", "XxXx", "XXX", "xxx", "XX/XX/XXXX", "ＸＸＸＸ"],
    "tags": [
        "<PHI>", "</PHI>", "<PHI>John Smith</PHI>", '<PHI TYPE="DATE">12/3</PHI>', "[REDACTED]", "[redacted]", "[NAME]", "<<DATE:x>>",
        "<DATE>", "<date>", "[PATIENT]", "[HOSPITAL]", "<PERSON>", "{{NAME}}", "[DATE_1]", "[deidentified]", "[De-identified]", "[removed]",
        "***REDACTED***", "**DATE**", "<DATE_TIME>", "<PHONE_NUMBER>", "<US_SSN>", "[PERSOON-1]", "[AGE90+]", "[PERSONALNAME]", "<ID>",
        "<LOCATION-OTHER>", "<MEDICALRECORD>", "[[NAME]]", "[patient name]", "[DATE_OF_BIRTH]", "[first_name]", "<IP_ADDRESS>",
        "[date removed]",
        "[NAME]Smith[/NAME]", "&lt;NAME&gt;", "[*****]", "(redacted)", "REDACTED", "MM/DD/YYYY", "##/##/####", "{name}", "«NAME»",
        "[Name: Smith]", "<NAME_12>", "[DOCTOR]", "__DATE__", "[Patient's name]",
    ],
    "surrogates": [
        "12/03/2019", "2019-03-12", "2019/03/12", "12.03.2019", "March 3, 2019", "3rd of March 2019", "3 March 2019", "12-Mar-2019",
        "Mar 2019",
        "20190312", "March 3rd", "555-123-4567", "(555) 123-4567", "pager 12345", "ext. 1234", "x12345", "MRN: 1234567",
        "accession number AB-12345",
        "a.smith@example.org", "10:45 AM on 12/03/2019", "12/03/2019 at 10:45", "2151-7-16", "medical record number 123456", "555-1234",
    ],
}  # fmt: skip
CASES = [pytest.param(name, marker, id=f"{name}-{i}") for name, markers in MARKERS.items() for i, marker in enumerate(markers)]

# (convention, text, what is found in it)
WITHIN = [
    ("mimic_cxr", "History: ___F, ___-year-old at ___:___", ["___"] * 4),
    ("mimic_iii", "At [**Hospital1 seen by us. No edema.", ["[**Hospital1 "]),
    ("mimic_iii", "On [**2151-7-16, a 5 mm nodule", ["[**2151-7-16"]),
    ("mimic_iii", "At [**Hospital1 5 mm nodule", ["[**Hospital1 "]),
    ("mimic_iii", "At [**Hospital1. There is a large effusion on the left **]", ["[**Hospital1", "**]"]),
    ("mimic_iii", "On 2151-7-16**] no edema", ["2151-7-16**]"]),
    ("mimic_iii", "See [** and **] here", ["[** and **]"]),
    ("open_i", "Chest x-XXXX, ComparisXXXX/11, 53XXXX", ["XXXX"] * 3),
    ("open_i", "An xx-year-old", ["xx"]),
    ("tags", "Seen by Dr. **** today, compared to ***.", ["****", "***"]),
    ("surrogates", "Dr. Smith, Mr. O'Brien, Mrs. de la Cruz and Ms. Smith-Jones", ["Smith", "O'Brien", "de la Cruz", "Smith-Jones"]),
    ("surrogates", "Dr. J. R. Smith and doctor Miller told Nurse Brown", ["J. R. Smith", "Miller", "Brown"]),
    ("surrogates", "DR. SMITH AT 10:45 AM ON 12/03/2019", ["SMITH AT 10:45 AM", "12/03/2019"]),
    ("surrogates", "By telephone at 10:45 and again at 11:15 a.m.", ["10:45", "11:15 a.m."]),
    ("surrogates", "Read by John A. Miller, MD.", ["John A. Miller"]),
    ("surrogates", "Stable since 12/03.", ["12/03"]),
]

PLAIN = [
    "view_position", "a_b", "_", "a _ b", "1. T11/12 and L4-5 with 1/2 of it", "x-ray", "47,XXX", "47, XXX", "48,XXXY",
    "49,XXXXY", "45,X/47,XXX[20]", "XXL", "XXXL", "46,XX", "XXXIV", "XXXII", "2 x 2 x 2 cm", "XXX syndrome", "[1]", "[1, 2]", "[sic]",
    "[L]", "[R]",
    "[x]", "[ ]", "<5 mm", "< 5 mm", "x > 3", "<b>bold</b>", "<br/>", "<p>", "<i>", "**bold**", "*it*", "***both***", "**FINDINGS:** clear",
    "**DATE:** today", "**Date**", "# Findings", "## Findings", "[left]", "[the patient]", "[new]", "[link](page)", "{a}",
    "a[0]", "[...]", "[id]", "(removed)", "chest tube (removed)", "5 * 3", "2 ** 3", "a * b * c", "[*] item", "3 x 4 cm", "50%",
    "14 French", "1:2",
    "C. difficile & co", "<1 cm and >3", "* item\n* item", "----", "====", "……",
]  # fmt: skip
NOT_SURROGATE = [
    "T11/12", "L4-5", "L4-L5", "1/2", "10/12 ribs", "Glasgow score 13/15", "aged 63", "a 63-year-old man", "3 x 4 cm",
    "3.2 x 4.1 x 5 mm", "50-60%",
    "14 French", "8-Fr tube", "ratio 1:2", "I:E of 1:20", "ribs 2-3", "2-3 mm", "100-1000 mL", "May 3 mm nodules be new?", "It may be 3.",
    "March of the effusion", "Doctor was here", "a nurse practitioner", "PA and lateral", "Dr. was notified", "EF 35-40",
    "at 10:45 the film",
    "x 4 cm", "x3", "grade 3/4", "5-10", "12 cm", "a 1234 mL", "pH 7.35", "section 3.2.1", "extends 2 cm", "tip 123 mm", "T5-T6", "2 views",
]  # fmt: skip


@pytest.mark.parametrize(("name", "marker"), CASES)
def test_marker_is_found_whole(name: str, marker: str) -> None:
    convention = [load_convention(name)]
    assert has_marker(marker, convention)
    text = f"Seen on {marker}, no edema."
    start = len("Seen on ")
    assert find_markers(text, convention) == [(start, start + len(marker))]


def test_names_are_covered() -> None:
    assert sorted(MARKERS) == known_conventions()


@pytest.mark.parametrize(("name", "text", "found"), WITHIN)
def test_markers_within_text(name: str, text: str, found: list[str]) -> None:
    assert [text[a:b].rstrip() for a, b in find_markers(text, [load_convention(name)])] == [each.rstrip() for each in found]


@pytest.mark.parametrize("text", PLAIN)
def test_no_convention_takes_this_for_a_marker(text: str) -> None:
    for wrapped in (text, f"There is {text} in the left lung.", f"IMPRESSION:\n{text}\nNo edema."):
        assert find_markers(wrapped, AUTO) == []
        assert not has_marker(wrapped, AUTO)
        assert collapse(wrapped, AUTO).text == wrapped


@pytest.mark.parametrize("text", NOT_SURROGATE)
def test_measurements_are_no_surrogates(text: str) -> None:
    assert find_markers(f"Seen: {text}.", ALL) == []


def test_unclosed_marker_leaves_the_next_sentence() -> None:
    text = "Unchanged since [**2151-7-16\nThere is a large effusion. Dr. [**Last Name (un) saw it."
    assert collapse(text, load_conventions(["mimic_iii"])).text.split() == (
        f"Unchanged since {MARK} There is a large effusion. Dr. {MARK} saw it.".split()
    )


# No character that a marker could be made of, or join.
plain_texts = st.text(alphabet=st.sampled_from("abcdeghz ABZ,;:\n\t'é"), max_size=30)


@pytest.mark.parametrize("name", known_conventions())
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_inserted_markers_are_all_found_and_map_back(name: str, data: st.DataObject) -> None:
    markers = data.draw(st.lists(st.sampled_from([m for m in MARKERS[name] if m != "</PHI>"]), max_size=4))
    # "| " on both sides: no name, number or label of a neighbour is glued to a marker.
    text, spans = "", []
    for marker in markers:
        text += data.draw(plain_texts) + " | "
        spans.append((len(text), len(text) + len(marker)))
        text += marker + " | "
    text += data.draw(plain_texts)
    conventions = [load_convention(name)]
    assert find_markers(text, conventions) == spans
    assert residual_markers(text, conventions) == counts(text, conventions)[name] == len(spans)
    assert has_marker(text, conventions) == bool(spans)
    for mark in (MARK, None):
        short = collapse(text, conventions, mark)
        assert short.spans == tuple(spans)
        for (a, b), (start, end) in zip(short.short, spans, strict=True):
            assert (short.to_original(a), short.to_original(b, end=True)) == (start, end)
        outside = [i for i in range(len(short.text)) if not any(a <= i < b for a, b in short.short)]
        assert all(text[short.to_original(i)] == short.text[i] for i in outside)
    assert len(find_markers(short.text, conventions)) == len(spans)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([m for markers in MARKERS.values() for m in markers] + ["[", "<", "**", "_", "x", " ", "a", "1", "]"])))
def test_hints_never_hide_a_marker(pieces: list[str]) -> None:
    text = "".join(pieces)
    for convention in ALL:
        assert has_marker(text, [convention]) == bool(convention.pattern.search(text))
        assert bool(find_markers(text, [convention])) == bool(convention.spans(text))


def test_heading_between_asterisks_stays() -> None:
    assert find_markers("No edema.\n***** IMPRESSION *****\nClear.", AUTO) == []


def test_touching_and_overlapping_markers_are_one() -> None:
    assert find_markers("a ___XXXX[**1**] b", AUTO) == [(2, 16)]
    assert find_markers("[XXXX] [**___**]", AUTO) == [(1, 5), (7, 16)]
    assert counts("___ XXXX XXXX", AUTO) == {"mimic_cxr": 1, "mimic_iii": 0, "open_i": 2, "tags": 0}


def test_auto_is_all_but_the_opt_in_ones() -> None:
    assert [c.name for c in AUTO] == ["mimic_cxr", "mimic_iii", "open_i", "tags"]
    assert [c.name for c in load_conventions(["open_i", "auto"])] == ["open_i", "mimic_cxr", "mimic_iii", "tags"]
    assert load_convention("surrogates").opt_in
    with pytest.raises(CxrguardError, match="auto, mimic_cxr"):
        load_convention("mimic")


HOSTILE = [
    "_",
    "[**",
    "[[[[",
    "<<<<",
    "_ ",
    "x",
    "**",
    "1",
    "Dr. ",
    "{",
    "<PHI>",
    "[** \n",
    "a",
    " ",
    "Aa ",
    "12/",
    "Hospital1 ",
    "**]",
    "Dr. A A",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_linear_on_hostile_text(unit: str) -> None:
    def seconds(n: int) -> float:
        text = (unit * n)[:n]
        start = time.process_time()
        find_markers(text, ALL)
        return time.process_time() - start

    # Eight times the text takes about eight times as long; a quadratic pattern would take 64 times.
    small = min(seconds(125_000) for _ in range(2))
    large = seconds(1_000_000)
    assert large < 2
    assert large < 30 * small + 0.05


# --- a user's own file


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_own_file(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "name: ours\nparts: {letter: ['A', 'B']}\nmarkers: ['~(?&letter){2,9}~', '(?i)qqq']\n"
        "examples: [{before: 'Seen ~AB~.', after: 'Seen.'}]\n",
    )
    own = load_conventions([path, "open_i"])
    assert [c.name for c in own] == ["ours", "open_i"]
    assert find_markers("a ~ABBA~ QQq XXXX", own) == [(2, 8), (9, 12), (13, 17)]
    assert counts("~AA~ ~AA~", own) == {"ours": 2, "open_i": 0}
    assert find_markers("~AA~", pickle.loads(pickle.dumps(own))) == [(0, 4)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "name and markers"),
        ("name: a\nmarkers: ['x{9}\nb", "no valid YAML"),
        ("name: a\n", "markers: is missing"),
        ("markers: ['qq']\n", "name: is missing"),
        ("name: a\nmarkers: qq\n", "markers: has the wrong type"),
        ("name: a\nmarkers: [1]\n", r"markers\.0: must be a regular expression"),
        ("name: a\nmarker: ['qq']\n", "marker: unknown key"),
        ("name: tags\nmarkers: ['qq']\n", "name: 'tags' is a shipped"),
        ("name: a\nmarkers: {one: '(qq'}\n", r"markers\.one: is no valid regular expression"),
        ("name: a\nmarkers: ['q*']\n", "matches the empty string"),
        ("name: a\nmarkers: ['[a-z]+ is']\n", "ordinary report text"),
        ('name: a\nmarkers: ["\\\\b"]\n', "ordinary report text"),
        ("name: a\nmarkers: ['(?:(?&x))q']\n", r"\(\?&x\) is no part"),
        ("name: a\nmarkers: ['(q)\\1']\n", "numbered group"),
        ("name: a\nmarkers: ['qq']\nhints: ['']\n", "hints: must be"),
        ("name: a\nmarkers: ['qq']\nexamples: [{before: b}]\n", r"examples\[0\]: must hold"),
        ("name: a\nmarkers: ['qq']\nexamples: [{before: secret, after: b}]\n", r"examples\[0\]: 'before'"),
        ("name: a\nmarkers: ['(?:a+)+~']\n", "takes too long"),
        ("name: a\nmarkers: ['(?:z|zz)+~']\n", "takes too long"),
        ("name: a\nmarkers: ['(?:_|__)+$~']\n", "takes too long"),
    ],
)
def test_own_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(CxrguardError, match=message) as caught:
        load_conventions([path])
    assert "own.yaml" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CxrguardError, match="nowhere.yml.*cannot be read"):
        load_convention(str(tmp_path / "nowhere.yml"))


def test_runaway_pattern_that_passed_the_probe_is_timed_out(tmp_path: Path) -> None:
    # Catastrophic only on alternating digits and letters of a class, which no probe is made of.
    own = load_conventions([write(tmp_path, "name: slow\nmarkers: ['~(?:\\d\\p{L}|\\d\\p{L}\\d\\p{L})+~']\n")])
    assert find_markers("~1a1a~", own) == [(0, 6)]
    start = time.monotonic()
    with pytest.raises(CxrguardError, match=re.compile("'slow'.*ran out of time.*Bound the repetitions")) as caught:
        find_markers("~" + "7m" * 2000 + "secret", own)
    assert time.monotonic() - start < 5
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
