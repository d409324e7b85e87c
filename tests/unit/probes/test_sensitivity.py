"""Edits of markers, the placebo, paraphrases and the adversarial search."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrguard.probes.paraphrase import SYNONYMS, paraphrase
from cxrguard.probes.sensitivity import MARKER_EDITS, SwapSearch, marker_edits, placebo_edit, swap_words
from cxrguard.probes.words import cut_out, words_of

PROMPT = "Compared to ___, the small left pleural effusion is unchanged. No new opacity."
WORDS = ["lung", "mass", "apex"]


def spans(prompt: str) -> list[tuple[int, int]]:
    return [m.span() for m in re.finditer("_{3,}", prompt)]


def said(prompt: str) -> list[str]:
    return [word.text for word in words_of(prompt)]


def test_each_edit_of_a_marker() -> None:
    edits = {e.kind: e.text for e in marker_edits(PROMPT, spans(PROMPT), vocabulary=WORDS, seed=0)}
    assert tuple(edits) == MARKER_EDITS
    assert edits["removed"] == PROMPT.replace(" ___", "")
    assert edits["random_word"] in {PROMPT.replace("___", word) for word in WORDS}
    number = re.fullmatch(re.escape(PROMPT).replace("___", r"(\d{1,5})"), edits["random_number"])
    assert number and int(number[1]) < 100_000
    assert sorted(said(edits["moved"])) == sorted(said(PROMPT)) and said(edits["moved"]) != said(PROMPT)
    assert [w for w in said(edits["moved"]) if w != "___"] == [w for w in said(PROMPT) if w != "___"]
    assert edits["paraphrased"].count("___") == 1 and "stable" in edits["paraphrased"] and "unchanged" not in edits["paraphrased"]


def test_seed_and_prompt_decide_and_seeds_differ() -> None:
    made = [marker_edits(PROMPT, spans(PROMPT), vocabulary=WORDS, seed=s) for s in (0, 0, *range(1, 9))]
    assert made[0] == made[1] and len({tuple(e.text for e in edits) for edits in made}) > 5


@given(st.lists(st.sampled_from(["left", "effusion,", "(no", "edema)", "___", "of", "___."]), min_size=1, max_size=9), st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_edits_keep_the_other_words(pieces: list[str], seed: int) -> None:
    prompt = " ".join(pieces)
    if not spans(prompt):
        return
    others = [w for w in said(prompt) if w != "___"]
    edits = {e.kind: e.text for e in marker_edits(prompt, spans(prompt), vocabulary=WORDS, seed=seed)}
    assert said(edits["removed"]) == others and prompt not in edits.values()
    assert len(said(edits["random_word"])) == len(said(edits["random_number"])) == len(said(prompt))
    assert not spans(edits["random_word"]) and not spans(edits["random_number"])
    if "moved" in edits:
        assert [w for w in said(edits["moved"]) if w != "___"] == others and said(edits["moved"]) != said(prompt)
    else:
        assert not others


def test_an_edit_that_cannot_be_made_is_left_out() -> None:
    assert [e.kind for e in marker_edits("___", [(0, 3)], vocabulary=WORDS, seed=0)] == ["removed", "random_word", "random_number"]


@pytest.mark.parametrize(
    ("markers", "vocabulary", "says"),
    [([], WORDS, "no marker to edit"), ([(0, 3)], [], "the vocabulary is empty"), ([(0, 99)], WORDS, "spans must lie in the prompt's 8")],
)
def test_what_cannot_be_edited(markers: Any, vocabulary: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        marker_edits("a secret", markers, vocabulary=vocabulary, seed=0)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("prompt", "want"),
    [
        ("No evidence of edema.", "No sign of edema."),
        ("PA view, chest radiograph", "Posteroanterior view, radiograph of the chest"),
        ("Man with mild  edema", "Male patient with slight  edema"),
        ("Edema. Small mass. Hernia.", "Hernia. Edema. Small mass."),
        ("manly", None),
        ("edema", None),
        ("", None),
        ("Edema. Edema.", None),
    ],
)
def test_paraphrase(prompt: str, want: str | None) -> None:
    assert paraphrase(prompt) == want


def test_a_paraphrase_leaves_what_is_kept_alone() -> None:
    assert paraphrase("stable stable ___", ((0, 6), (14, 17))) == "stable unchanged ___"


def test_synonyms_change_neither_side_nor_negation_nor_number() -> None:
    facts = re.compile(r"\b(left|right|bilateral|no|not|without|new|old|\d+)\b")
    assert all(facts.findall(a) == facts.findall(b) and a != b for a, b in SYNONYMS.items())


def count(text: str) -> int:
    """Tokens: three characters each, punctuation alone."""
    return sum((len(piece) + 2) // 3 for piece in re.findall(r"\w+|[^\w\s]", text))


@pytest.mark.parametrize("n", range(1, 12))
def test_placebo_takes_just_as_many_tokens_elsewhere(n: int) -> None:
    texts = {placebo_edit(PROMPT, spans(PROMPT), n, count, seed=s) for s in range(6)}
    for text in texts:
        assert text is not None and count(text) == count(PROMPT) - n and spans(text)
        left = iter(said(PROMPT))
        assert all(word in left for word in said(text))  # some words fewer, in order
    assert placebo_edit(PROMPT, spans(PROMPT), n, count, seed=0) == placebo_edit(PROMPT, spans(PROMPT), n, count, seed=0)
    if n < 5:
        assert len(texts) > 1


def test_placebo_from_several_places_where_no_run_fits() -> None:
    """Runs take 1, 5, 6 or 7 tokens at once; two are to be had from both ends, and three not at all."""
    prompt, cost = "aa ___ bbbb cc", {"aa": 1, "bbbb": 5, "cc": 1, "___": 9}

    def tokens(text: str) -> int:
        return sum(cost[word] for word in said(text))

    assert placebo_edit(prompt, [(3, 6)], 2, tokens, seed=0) == "___ bbbb"
    assert placebo_edit(prompt, [(3, 6)], 3, tokens, seed=0) is None


@pytest.mark.parametrize(("prompt", "n"), [(PROMPT, 0), (PROMPT, -2), (PROMPT, 500), ("___", 1), ("", 1), ("abcdef ___", 1)])
def test_no_placebo(prompt: str, n: int) -> None:
    assert placebo_edit(prompt, spans(prompt), n, count, seed=0) is None


def vowels(prompts: Sequence[str]) -> list[float]:
    """A score that each word adds to."""
    return [float(sum(c in "aeiou" for c in p)) for p in prompts]


@pytest.mark.parametrize("raise_score", [True, False])
def test_search_goes_one_way_swap_by_swap(raise_score: bool) -> None:
    vocabulary = ["ooooo", "mmm", "ab"]
    search = swap_words("left lung base", vowels, vocabulary, raise_score=raise_score, candidates=3)
    steps = [b - a for a, b in zip(search.scores, search.scores[1:], strict=False)]
    assert len(steps) >= 2 and all((step > 0) == raise_score for step in steps)
    assert [abs(s) for s in steps] == sorted((abs(s) for s in steps), reverse=True)  # the greatest first
    assert search.scores == tuple(vowels(search.texts))
    best = vowels([" ".join(["ooooo" if raise_score else "mmm"] * 3)])[0]
    assert search.scores[-1] == best and all(len(words_of(t)) == 3 for t in search.texts)


def test_search_keeps_to_its_budget_and_is_repeatable() -> None:
    scored: list[str] = []

    def score(prompts: Sequence[str]) -> list[float]:
        scored.extend(prompts)
        return vowels(prompts)

    for budget in (1, 2, 7, 30):
        scored.clear()
        search = swap_words(PROMPT, score, ["ooooo", "oo"], raise_score=True, budget=budget, seed=3)
        assert search.evaluated == len(scored) <= budget
        assert search == swap_words(PROMPT, vowels, ["ooooo", "oo"], raise_score=True, budget=budget, seed=3)
    assert len(swap_words(PROMPT, vowels, ["ooooo"], raise_score=True, max_swaps=2).texts) == 3


def test_search_that_finds_nothing() -> None:
    search = swap_words("oooooo", vowels, ["mm"], raise_score=True)
    assert (search.texts, search.scores, search.smallest()) == (("oooooo",), (6.0,), 0)
    assert swap_words("", vowels, ["mm"], raise_score=True).evaluated == 1


def test_smallest_edit() -> None:
    search = SwapSearch(("secret",) * 4, (1.0, 6.0, 9.0, 10.0), 9)
    assert [search.smallest(share) for share in (0, 0.5, 0.6, 0.9, 1)] == [0, 1, 2, 3, 3]
    assert "secret" not in repr(search) and "secret" not in repr(marker_edits("secret ___", [(7, 10)], vocabulary=WORDS, seed=0))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"vocabulary": []}, "the vocabulary is empty"),
        ({"vocabulary": ["a secret", "b.", "c"]}, "2 of 3 entries of the vocabulary are no single word"),
        ({"vocabulary": ["a"], "budget": 0}, "at least 1, not 0 and 4"),
    ],
)
def test_bad_searches(arguments: Any, says: str) -> None:
    with pytest.raises(ValueError, match=f"^.*{says}"):
        swap_words("x", vowels, raise_score=True, **arguments)


def test_removed_is_what_cut_out_gives() -> None:
    assert cut_out("of ___ and ___.", spans("of ___ and ___.")) == "of and."
