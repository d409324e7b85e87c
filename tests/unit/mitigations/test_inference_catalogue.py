"""The catalogue: names, published defaults, and the page that tells of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cxrguard.errors import CxrguardError
from cxrguard.mitigating import catalogue
from cxrguard.mitigating.catalogue import MITIGATIONS, build, check_names
from cxrguard.mitigations.inference.initial_noise_per_sample import InitialNoisePerSample

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "mitigations.md").read_text(encoding="utf-8")
PUBLISHED = {
    "embedding_optimization": {"learning_rate": 0.05, "iterations": 10, "target": None},
    "attention_rescaling": {"factor": 1.25, "mask_end": True},
    "static_transition": {"transition": 500, "before": 0.0},
    "opposite_guidance": {"transition": 650, "before": -2.0},
    "dynamic_transition": {"before": 0.0},
    "initial_noise": {"gamma": 0.7, "rho": None, "iterations": 2, "transition": 900},
    "initial_noise_per_sample": {"learning_rate": 0.01, "iterations": 100, "target": None},
    "sail": {"learning_rate": 0.05, "iterations": 10, "weight": 0.05, "target": None, "step": None},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_defaults(name: str) -> None:
    assert vars(build(name)) == PUBLISHED[name]
    assert InitialNoisePerSample().iterations == 1000  # as published; the command's are fewer


def test_names() -> None:
    assert check_names([]) == ("none", *MITIGATIONS)
    assert check_names(["sail", "none", "sail", "random_word"]) == ("none", "sail", "random_word")
    with pytest.raises(CxrguardError, match=r"Unknown mitigation 'x': known are random_word, .*sail\."):
        check_names(["x"])


def test_the_page_names_them_all_and_nothing_else() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert [name for name in rows if name in MITIGATIONS] == list(MITIGATIONS)


def test_the_pages_examples_name_mitigations_that_there_are() -> None:
    for named in re.findall(r"--mitigations (\S+)", PAGE):
        check_names(named.split(","))


def test_noise_iterations_of_the_command_are_on_the_page() -> None:
    assert f"{catalogue._NOISE_ITERATIONS} iterations, published 1,000" in PAGE
