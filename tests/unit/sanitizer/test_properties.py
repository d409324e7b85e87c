"""Markers anywhere in sentences whose truth is known: nothing false may come out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cxrguard.sanitizer.conventions import load_conventions, residual_markers
from cxrguard.sanitizer.fact_check import keeps_facts
from cxrguard.sanitizer.pipeline import ACTIONS, sanitize_text

CONVENTIONS = load_conventions(["mimic_cxr", "open_i"])
MARKERS = ["___", "__", "_ _ _", "_" * 40, "XXXX", "xxxx", "＿＿＿", "XXXX XXXX"]

finding = st.sampled_from(["pneumothorax", "effusion", "consolidation", "edema", "atelectasis"])
side = st.sampled_from(["left", "right"])
plain = st.one_of(
    st.builds("No {} on the {}.".format, finding, side),
    st.builds("There is {} on the {}.".format, finding, side),
    st.builds("Possible {} {}.".format, side, finding),
    st.builds("No {} or {}.".format, finding, finding),
    st.builds("The {} measures 3.2 x 4 cm.".format, finding),
    st.builds("{} {} may represent {}.".format, side.map(lambda s: s.title()), finding, finding),
)
# A template and the one thing that may become of it (or nothing).
lead = st.tuples(finding, side).map(
    lambda fs: (f"In comparison with the study of {{}}, there is {fs[1]} {fs[0]}.", f"There is {fs[1]} {fs[0]}.")
)
tail = st.tuples(finding, side).map(lambda fs: (f"The {fs[1]} {fs[0]} is unchanged since {{}}.", f"The {fs[1]} {fs[0]} is unchanged."))
age = finding.map(lambda f: (f"{{}} year old woman with {f}.", f"Woman with {f}."))
repairable = st.one_of(lead, tail, age)


@given(st.lists(plain, min_size=1, max_size=5), st.lists(st.tuples(st.integers(0, 400), st.sampled_from(MARKERS)), min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_marker_anywhere_changes_no_fact(sentences: list[str], inserts: list[tuple[int, str]]) -> None:
    text = " ".join(sentences)
    for position, marker in inserts:
        # At the edge of a word, glued to it or not: who can read "l___eft"?
        at = text.find(" ", position % (len(text) + 1))
        glue = " " * (position % 2)
        text = text[:at] + glue + marker + text[at:] if at >= 0 else text + glue + marker
    new = sanitize_text(text, CONVENTIONS).text
    assert residual_markers(new, CONVENTIONS) == 0
    assert sanitize_text(new, CONVENTIONS).text == new
    assert keeps_facts(" ".join(sentences), new)


@given(st.lists(st.one_of(plain.map(lambda s: (s, s)), repairable), min_size=1, max_size=5), st.sampled_from(MARKERS))
@settings(max_examples=200, deadline=None)
def test_repairable_sentences_are_repaired(pairs: list[tuple[str, str]], marker: str) -> None:
    text = " ".join(before.format(marker) for before, _ in pairs)
    assert sanitize_text(text, CONVENTIONS).text == " ".join(after for _, after in pairs)


PARTS = [*"_X xn.o:;,\n1-'", "No ", "Dr. ", "FINDINGS: ", "left ", " since ", "\ue0ff", "\ue0fe", "___", "XXXX"]


@given(st.lists(st.sampled_from(PARTS), max_size=60).map(lambda parts: "".join(parts)), st.sampled_from(ACTIONS))
@settings(max_examples=400, deadline=None)
def test_no_text_breaks_it(text: str, action: str) -> None:
    result = sanitize_text(text, CONVENTIONS, action)
    if action == "off":
        assert result.text == text
        return
    assert residual_markers(result.text, CONVENTIONS) == 0
    assert sanitize_text(result.text, CONVENTIONS, action).text == result.text
    assert all(0 <= edit.start <= edit.end <= len(text) for edit in result.edits)
