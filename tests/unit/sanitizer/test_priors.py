"""References to earlier studies are found whole; the patient's history is none."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrguard.sanitizer.conventions import MARK
from cxrguard.sanitizer.priors import find_priors

# What is between braces is the reference.
REFERENCES = [
    "Unchanged since {the prior study}.",
    "Compared to {the prior chest radiograph dated 3/4/2019}, no change.",
    "{The previous exam} showed a nodule.",
    "In comparison with the {study of earlier today}, the tube is unchanged.".replace("the {", "{the "),
    "{Yesterday's film} showed an effusion.",
    "Stable since {the most recent prior}.",
    "Comparison is made to {an outside CT from last month}.",
    "Unchanged from {priors}.",
    "{Prior examination} showed edema.",
    "Similar to {prior imaging}.",
    "Unchanged from {prior}.",
    "Compared to {prior}, the effusion is larger.",
    "Increased from {previous}, now moderate.",
    "There are no {prior films} available for comparison.",
    "Compared to {the previous outside examination}, no change.",
    "Seen on {the prior PA and lateral chest radiographs from March 3, 2019}.",
    "In comparison to {the chest radiograph of 3/4/2019 at 05:49}, lower volumes.",
    "As compared to {the previous radiograph}, the lung\nvolumes are lower.",
    "As compared to {the\nprevious radiograph}, lower volumes.",
    f"Compared to {{the study of {MARK}}}, no change.",
    f"Unchanged since {{the prior CT dated {MARK}}}.",
    "The effusion is larger than on {the prior study} and {the CT of 3 days ago}.",
    "Correlate with {old films}.",
    "No change compared to {yesterday}.",
    "{Comparison radiographs} show the same nodule.",
    "Stable since {the patient's prior chest x-ray}.",
    "Not seen on {the previous CT scan}.",
    "Worse since {the exam performed earlier today}.",
    "Compared with {multiple prior studies}, stable.",
    f"Compared to {{the prior study}}, {MARK} stent has been removed.",
    f"There are no {{previous chest x-{MARK}}}.",
    "Compared to {the prior study (3/4/2019)}, stable.",
]
HISTORY = [
    "Evidence of prior granulomatous disease.",
    "Prior surgery.",
    "The previously seen nodule is stable.",
    "Prior fracture of the left clavicle.",
    "Previous sternotomy.",
    "Status post prior CT-guided biopsy.",
    "Removal of the previous chest tube.",
    "Resolution of the prior right midlung infiltrate.",
    "The tip projects outside the thoracic cavity.",
    "Old rib fractures.",
    "History of prior tuberculosis infection.",
    "Clips from prior cholecystectomy.",
    "Prior to surgery, the lungs were clear.",
    "Further imaging may help.",
    "The study is limited by motion.",
    "PA and lateral chest radiographs were obtained.",
    "Recent pneumonia.",
    "Earlier opacity has resolved.",
    "The last rib is fractured.",
    "Chest radiograph on 3/4/2019.",
    "Consistent with prior CABG.",
    "No film is available.",
    "COMPARISON: Chest radiograph dated 3/4/2019, prior CT from last month.",
    "COMPARISON: The prior study.\nFINDINGS: The lungs are clear.",
]


@pytest.mark.parametrize("marked", REFERENCES)
def test_reference_is_found_whole(marked: str) -> None:
    text = marked.replace("{", "").replace("}", "")
    spans, removed = [], 0
    for i, char in enumerate(marked):
        if char == "{":
            spans.append(i - removed)
        if char in "{}":
            spans += [i - removed] * (char == "}")
            removed += 1
    expected = [text[a:b] for a, b in zip(spans[::2], spans[1::2], strict=True)]
    assert [text[a:b] for a, b in find_priors(text)] == expected


@pytest.mark.parametrize("text", HISTORY)
def test_history_is_none(text: str) -> None:
    assert [text[a:b] for a, b in find_priors(text)] == []


def test_after_the_comparison_section_they_count_again() -> None:
    text = "COMPARISON: The prior study.\nFINDINGS: Unchanged since the prior study."
    assert find_priors(text) == [(text.rindex("the prior"), len(text) - 1)]


PIECES = [
    "the",
    "prior",
    "previous",
    "study",
    "of",
    "3/4/2019",
    "since",
    "compared to",
    "chest",
    "CT",
    ".",
    ",",
    "\n",
    MARK,
    "nodule",
    "priors",
    "yesterday",
    "COMPARISON:",
    "a.m.",
    "FINDINGS:",
]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map(" ".join))
@settings(max_examples=300, deadline=None)
def test_spans_are_in_order_and_hold_text(text: str) -> None:
    spans = find_priors(text)
    assert spans == find_priors(text)
    assert all(a < b <= len(text) and not text[a].isspace() for a, b in spans)
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
    assert all("nodule" not in text[a:b] for a, b in spans)


@pytest.mark.parametrize(
    "text",
    [
        "prior ",
        "the most recent prior chest ",
        "since the ",
        "compared to prior and ",
        " ",
        "COMPARISON: ",
        "COMPARISON",
        "a",
        "1/1/",
        "\n",
    ],
)
def test_linear_time(text: str) -> None:
    start = time.perf_counter()
    find_priors(text * (300_000 // len(text)))
    assert time.perf_counter() - start < 4
