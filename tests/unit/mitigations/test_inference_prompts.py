"""Mitigations that change the prompt."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrguard.diffusion.loading import load_pipeline
from cxrguard.errors import ModelError
from cxrguard.mitigations.inference.insertion import Insertion
from cxrguard.mitigations.inference.marker_removal import MarkerRemoval
from cxrguard.mitigations.inference.random_number import RandomNumber
from cxrguard.mitigations.inference.random_token import RandomToken
from cxrguard.mitigations.inference.random_word import RandomWord
from cxrguard.mitigations.inference.sanitizing import Sanitizing
from cxrguard.mitigations.inference.vocabulary import TokenizerVocabulary
from cxrguard.mitigations.inference.word_repeat import WordRepeat
from cxrguard.sanitizer.conventions import AUTO, has_marker, load_conventions


class Words:
    """A vocabulary that cannot be mistaken for a prompt's words."""

    def random_word(self, generator: np.random.Generator) -> str:
        return f"§w{generator.integers(5)}"

    def random_token(self, generator: np.random.Generator) -> str:
        return f"§t{generator.integers(5)}"


INSERTIONS = [RandomWord, RandomToken, RandomNumber, WordRepeat]
PROMPTS = st.text(st.sampled_from("ab ,.\n_é"), min_size=1, max_size=30).filter(str.strip)


def is_subsequence(few: list[str], many: list[str]) -> bool:
    rest = iter(many)
    return all(word in rest for word in few)


@pytest.mark.parametrize("kind", INSERTIONS)
@given(prompt=PROMPTS, insertions=st.integers(1, 5), seed=st.integers(0, 3))
def test_the_words_stay_in_order_and_so_many_come_in(kind: type[Insertion], prompt: str, insertions: int, seed: int) -> None:
    (text,) = kind(insertions).rewrite([prompt], seed, Words())
    assert text is not None
    before, after = prompt.split(" "), text.split(" ")
    assert len(after) == len(before) + insertions and is_subsequence(before, after)
    left = list(after)
    for word in before:
        left.remove(word)
    for word in left:
        if kind is RandomNumber:
            assert word.isdigit() and 0 <= int(word) < 100_000
        elif kind is WordRepeat:
            assert word in before
        else:
            assert word.startswith("§w" if kind is RandomWord else "§t")


@pytest.mark.parametrize("kind", INSERTIONS)
def test_a_prompts_text_is_its_own_and_of_the_seed(kind: type[Insertion]) -> None:
    prompts = ["PA view. Small left effusion.", "AP view with a new nodule.", "Clear lungs on this film."]
    together = kind(4).rewrite(prompts, 0, Words())
    assert together == [kind(4).rewrite([prompt], 0, Words())[0] for prompt in prompts]
    assert together[::-1] == kind(4).rewrite(prompts[::-1], 0, Words())
    assert all(a != b for a, b in zip(together, kind(4).rewrite(prompts, 1, Words()), strict=True))


def test_places_are_spread_over_the_prompt() -> None:
    texts = [RandomWord(1).rewrite(["a b c"], seed, Words())[0] for seed in range(200)]
    places = [next(i for i, word in enumerate(str(text).split(" ")) if word.startswith("§")) for text in texts]
    counts = np.bincount(places, minlength=4)
    assert len(counts) == 4 and counts.min() > 25  # each of four 50 times on average


def test_published_numbers_of_insertions() -> None:
    assert [kind().insertions for kind in INSERTIONS] == [2] * 4
    with pytest.raises(ValueError, match="at least 1"):
        RandomWord(0)


@pytest.mark.parametrize(
    ("prompt", "left"),
    [
        ("In comparison with the study of ___, clear.", "In comparison with the study of , clear."),
        ("XXXX opacities", "opacities"),
        ("Since [**2101-2-3**] no change.", "Since no change."),
        ("No marker  here", "No marker  here"),
        ("___", None),
        (" ___ XXXX ", None),
    ],
)
def test_markers_are_cut_out_and_nothing_else(prompt: str, left: str | None) -> None:
    assert MarkerRemoval().rewrite([prompt], 0, Words()) == [left]


@given(st.lists(st.sampled_from(["___", "XXXX", "the", "study", "of", "effusion.", "a/b"]), min_size=1, max_size=8))
def test_no_marker_is_left(words: list[str]) -> None:
    (left,) = MarkerRemoval().rewrite([" ".join(words)], 0, Words())
    assert left is None or not has_marker(left, load_conventions([AUTO]))
    assert (left or "").split() == [word for word in words if word not in ("___", "XXXX")]


def test_what_the_sanitizer_has_no_text_for_is_withheld() -> None:
    fake = SimpleNamespace(sanitize=lambda prompts: SimpleNamespace(prompts=["x", "", " "]))
    assert Sanitizing(fake).rewrite(["a", "b", "c"], 0, Words()) == ["x", None, None]


@pytest.mark.parametrize("which", ["pipeline_dir", "v_pipeline_dir"])
def test_words_and_tokens_of_a_tokenizer(which: str, request: pytest.FixtureRequest) -> None:
    directory: Path = request.getfixturevalue(which)
    tokenizer = load_pipeline(str(directory)).tokenizer
    vocabulary, generator = TokenizerVocabulary(tokenizer), np.random.default_rng(0)
    words = {vocabulary.random_word(generator) for _ in range(300)}
    assert len(words) > 20 and words <= set(vocabulary.words)
    for word in words:
        (number,) = tokenizer(word, add_special_tokens=False).input_ids
        assert number not in tokenizer.all_special_ids and word.isalpha() and len(word) >= 3
    tokens = {vocabulary.random_token(generator) for _ in range(300)}
    assert len(tokens) > 30 and not tokens & {*tokenizer.all_special_tokens, ""} and not any("#" in t and len(t) > 2 for t in tokens)


def test_a_tokenizer_without_words_is_refused() -> None:
    class Bare:
        all_special_ids, unk_token_id = (0,), 0

        def __len__(self) -> int:
            return 1

        def decode(self, ids: list[int]) -> str:
            return "<unk>"

    vocabulary = TokenizerVocabulary(Bare())
    with pytest.raises(ModelError, match="no whole word"):
        vocabulary.random_word(np.random.default_rng(0))
    with pytest.raises(ModelError, match="hardly a token"):
        vocabulary.random_token(np.random.default_rng(0))
