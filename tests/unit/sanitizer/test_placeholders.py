"""What stands in a marker's place must fit and must state nothing."""

from __future__ import annotations

import builtins
import json
import random
import re
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.lang.en.stop_words import STOP_WORDS

from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.conventions import MARK, find_markers, known_conventions, load_convention
from cxrguard.sanitizer.placeholders import PLACING_ACTIONS, place, place_with_spans
from cxrguard.sanitizer.placeholders import surrogate as surrogate_module
from cxrguard.sanitizer.placeholders.pseudo import _CLUSTERS, n_pseudo_words, pseudo_word

MARKING = [load_convention(name) for name in known_conventions() if name != "surrogates"]


def put(text: str, action: str, kinds: list[str] | None = None, key: str = "key", seed: int = 0) -> str | None:
    return place(text.replace("#", MARK), kinds, action, key, seed)


FILLED = [
    ("The effusion is unchanged since #.", "The effusion is unchanged since then."),
    ("Compared to #, the heart is normal.", "Compared to before, the heart is normal."),
    ("In comparison with the study of #, there is no change.", "In comparison with the study of some day, there is no change."),
    ("Stable from #.", "Stable from before."),
    ("Chest radiograph dated #.", "Chest radiograph dated earlier."),
    ("Suspicious for #.", "Suspicious for something."),
    ("A # catheter is seen.", "A certain catheter is seen."),
    ("There is an # catheter.", "There is a certain catheter."),
    ("The # catheter is seen.", "The said catheter is seen."),
    ("No # pneumothorax.", "No such pneumothorax."),
    ("# is unchanged.", "Something is unchanged."),
    ("# are no opacities.", "There are no opacities."),
    ("No effusion. # is clear.", "No effusion. Something is clear."),
    ("Findings were discussed with # at # on #.", "Findings were discussed with someone at some point on some day."),
    ("Unchanged since # #.", "Unchanged since then."),
]
# Here any word would state something, or be none that is English.
NOT_FILLED = [
    "No #. Pneumothorax on the left.",
    "No evidence of #.",  # of anything? of it?
    "The mass measures 3.2 x # cm.",
    "The mass measures # x 3 cm.",
    "A # mm nodule.",
    "A 5 # catheter.",
    "# year old woman.",
    "#-year-old woman.",
    "#F with fever.",
    "R/O #",
    "Normal chest x-#.",
    "Compari#/11.",
    "# pneumothorax.",  # may have hidden "No"
    "There is # consolidation.",
    "The opacity # represent scarring.",
    "A # nodule.",
    "Lung volumes are #.",
    "Heart and pulmonary # are normal.",
    "The right # is unremarkable.",
    "Pneumothorax is # identified.",
    "Mr. # has cough.",
    "T# compression.",
    "COMPARISON: #",
    "Opacity of # lobe.",
]


@pytest.mark.parametrize(("before", "after"), FILLED)
def test_fill(before: str, after: str) -> None:
    assert put(before, "fill") == after


@pytest.mark.parametrize("text", NOT_FILLED)
def test_fill_refuses(text: str) -> None:
    assert put(text, "fill") is None


MEASURED = [
    "3.2 x # cm",
    "measures # mm",
    "a #cm nodule",
    "# x 4 cm",
    "< # mm",
    "No. # French",
    "level 4 #",
    "#%",
    "size # stent",
    "5.# cm",
]


@pytest.mark.parametrize("action", PLACING_ACTIONS)
@pytest.mark.parametrize("text", MEASURED)
def test_no_word_in_a_measurement(text: str, action: str) -> None:
    assert put(text, action, ["2151-7-16"]) is None


SURROGATES = [
    ("Unchanged since #.", r"Unchanged since \d+/\d+/20\d\d\."),
    ("Compared with #, no change.", r"Compared with \d+/\d+/20\d\d, no change\."),
    ("A study of # shows no change.", r"A study of \d+/\d+/20\d\d shows no change\."),
    ("# year old woman.", r"[2-8]\d year old woman\."),
    ("A #-year-old woman.", r"An? [2-8]\d-year-old woman\."),
    ("History: #F with fever.", r"History: [2-8]\dF with fever\."),
    ("Dr. # was there.", r"Dr\. [A-Z][\w'-]+ was there\."),
    ("by Mr. # at # p.m. on #.", r"by Mr\. [A-Z]\w+ at \d+:\d\d p\.m\. on .*"),
    ("Radiograph dated # at # hours.", r"Radiograph dated \d+/\d+/20\d\d at \d\d:\d\d hours\."),
    ("Transferred from #.", r"Transferred from [A-Z]\w+ Hospital\."),
    ("Seen at # Hospital.", r"Seen at [A-Z]\w+ Hospital\."),
    ("She lives in #.", r"She lives in [A-Z][\w ]+\."),
    ("Telephone number: #.", r"Telephone number: 555-01\d\d\."),
    ("Findings were relayed to #.", r"Findings were relayed to [A-Z]\w+ [A-Z]\w+\."),
]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("before", "pattern"), SURROGATES)
def test_surrogate_of_the_right_kind(before: str, pattern: str, seed: int) -> None:
    if "#" in before and " on #" in before:
        before = before.replace(" on #", " performed on #")
    new = put(before, "surrogate", seed=seed)
    assert new is not None
    assert re.fullmatch(pattern.replace(" on .*", r" performed on \d+/\d+/20\d\d\."), new)


@pytest.mark.parametrize(
    "text", ["# pneumothorax.", "No evidence of #.", "Hypoxemic respiratory #.", "There is # effusion.", "Lungs are #."]
)
def test_surrogate_refuses_a_clinical_place(text: str) -> None:
    assert put(text, "surrogate") is None


def test_labels_say_the_kind_and_contradictions_refuse() -> None:
    new = put("Seen at # by #, telephone #.", "surrogate", ["Hospital1 18", "First Name8 (NamePattern2) ", "Telephone/Fax (1) 3"])
    assert new is not None and re.fullmatch(r"Seen at \w+ Hospital by \w+, telephone 555-01\d\d\.", new)
    assert put("Furosemide 20 mg #.", "surrogate", ["Hospital1"]) is None  # hides "BID"
    assert put("Lungs are #.", "surrogate", ["Hospital1"]) is None
    assert put("Seen #.", "surrogate", ["Something Unheard"]) is None


def test_dates_of_a_text_move_together() -> None:
    new = put("Seen #, then #, again #.", "surrogate", ["2151-7-16", "2151-7-26", "2151-7-16"])
    assert new is not None
    first, second, third = re.findall(r"\d+/\d+/\d{4}", new)
    assert first == third != second
    stamps = [time.mktime(time.strptime(d, "%m/%d/%Y")) for d in (first, second)]
    assert round((stamps[1] - stamps[0]) / 86_400) == 10


def test_impossible_date_still_gives_one() -> None:
    assert re.fullmatch(r"Seen \d+/\d+/20\d\d\.", put("Seen #.", "surrogate", ["2151-2-30"]) or "")


@pytest.mark.parametrize("seed", range(30))
def test_article_before_an_age(seed: int) -> None:
    new = put("A #-year-old man.", "surrogate", seed=seed)
    assert new is not None
    number = int(re.findall(r"\d+", new)[0])
    assert new.startswith("An ") == (80 <= number <= 89)


def test_spans_lead_back_to_the_original() -> None:
    text = f"Dr. {MARK} came. Compared with {MARK}, stable."
    placed = place_with_spans(text, None, "surrogate", "key", 0)
    assert placed is not None
    back = placed.text
    for start, end in reversed(placed.spans):
        back = back[:start] + MARK + back[end:]
    assert back == text


WORDS = [
    "There is",
    "the",
    "a",
    "an",
    "no",
    "left",
    "effusion",
    "catheter",
    "since",
    "of",
    "with",
    "Dr.",
    "is",
    "x",
    "3",
    "cm",
    ".",
    ",",
    "\n",
    MARK,
    MARK,
]
texts = st.lists(st.sampled_from([*WORDS, f"{MARK}-year-old", f"({MARK})", f"{MARK}F"]), min_size=1, max_size=25).map(" ".join)


@given(texts, st.sampled_from(PLACING_ACTIONS), st.text(max_size=8), st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_placed_texts(text: str, action: str, key: str, seed: int) -> None:
    new = place(text, None, action, key, seed)
    assert new == place(text, None, action, key, seed)
    if new is None:
        return
    assert MARK not in new and not find_markers(new, MARKING)
    # Whatever is not a marker is still there, in order, but for articles.
    kept = [word for word in re.findall(r"[\w.,]+", text.replace(MARK, " ")) if word not in ("a", "an")]
    position = 0
    for word in kept:
        position = new.find(word, position) + len(word)
        assert position >= len(word)


@given(st.integers(0, 2**40), st.text(max_size=20), st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_randomized_words_differ_at_each_place(seed: int, key: str, n: int) -> None:
    new = place(" and ".join([f"lines {MARK}"] * n), None, "randomize", key, seed)
    assert new is not None
    words = re.findall(r"lines (\S+)", new)
    assert len(set(words)) == n
    assert place(f"lines {MARK}", None, "randomize", key, seed, first=n - 1) == f"lines {words[-1]}"


def test_pseudo_words_do_not_come_again_and_are_words_of_nobody() -> None:
    sample = {pseudo_word(0, "k", i) for i in range(20_000)}
    assert len(sample) == 20_000 <= n_pseudo_words()
    assert all(re.fullmatch(r"[a-z]{7}", word) and any(c in word for c in _CLUSTERS) for word in list(sample)[:500])
    assert pseudo_word(0, "k", 1) != pseudo_word(0, "j", 1) != pseudo_word(1, "j", 1)


def test_no_radiology_word_has_a_pseudo_words_cluster() -> None:
    finding_words = (
        "pneumothorax hemidiaphragm bronchovascular azygos lymphangitic sarcoidosis histoplasmosis chymotrypsin Zenker Kartagener"
    )
    spacy_words = " ".join(STOP_WORDS)
    assert not re.search("|".join(_CLUSTERS), f"{finding_words} {spacy_words}", re.IGNORECASE)


def test_faker_of_others_is_left_alone() -> None:
    from faker import Faker

    random.seed(3)
    Faker.seed(3)
    expected = [Faker().last_name(), random.random()]
    random.seed(3)
    Faker.seed(3)
    put("Dr. # was there.", "surrogate")
    assert [Faker().last_name(), random.random()] == expected


def test_same_in_another_process() -> None:
    code = (
        "import sys, json; from cxrguard.sanitizer.placeholders import place; "
        "print(json.dumps([place(t, None, a, 'k', 1) for t, a in json.load(sys.stdin)]))"
    )
    jobs = [(f"Dr. {MARK} saw no change since {MARK}.", action) for action in ("randomize", "surrogate")]
    out = subprocess.run([sys.executable, "-c", code], input=json.dumps(jobs), capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == [place(text, None, action, "k", 1) for text, action in jobs]


def test_missing_faker_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_faker(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "faker":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    surrogate_module._faker.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without_faker)
    with pytest.raises(CxrguardError, match=r"cxrguard\[surrogates\]"):
        put("Dr. SECRETNAME # was there.", "surrogate")
    monkeypatch.undo()
    surrogate_module._faker.cache_clear()


def test_unknown_action_says_those_there_are_and_no_text() -> None:
    with pytest.raises(CxrguardError, match="fill, randomize, surrogate") as error:
        put("SECRET #.", "repair")
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize("action", ["fill", "randomize"])
@pytest.mark.parametrize(
    "text", ["a " * 200_000 + MARK, f"{MARK} " * 20_000, "x-" * 200_000 + MARK, f"since {MARK}, " * 5_000, "1 x " * 100_000 + MARK]
)
def test_linear_time(text: str, action: str) -> None:
    start = time.perf_counter()
    place(text, None, action, "k", 0)
    assert time.perf_counter() - start < 5
