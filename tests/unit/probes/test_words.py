"""Words, offsets of real tokenizers, aggregation and ablation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertTokenizerFast

from cxrguard.diffusion.encoding import token_layout, tokenize
from cxrguard.errors import ModelError
from cxrguard.probes.words import Word, aggregate_to_words, cut_out, leave_one_word_out, score_unique, token_offsets, words_of
from cxrguard.randomness import prompt_key

TEXTS = st.text(alphabet=" \n\tab_X1.,;:()[]*-'«é\u0301語😀", max_size=40)


def said(prompt: str) -> list[str]:
    return [word.text for word in words_of(prompt)]


@pytest.mark.parametrize(
    ("prompt", "want"),
    [
        ("PA view. Small left pleural effusion.", ["PA", "view", "Small", "left", "pleural", "effusion"]),
        ("Compared to ___, unchanged (see XXXX).", ["Compared", "to", "___", "unchanged", "see", "XXXX"]),
        ("___-year-old ___M; x-ray 3.2 cm", ["___-year-old", "___M", "x-ray", "3.2", "cm"]),
        ("[**Hospital1 **] - 5% . ...", ["Hospital1", "5"]),
        ("", []),
        ("  \n ", []),
        ("«Épanchement»", ["Épanchement"]),
    ],
)
def test_words(prompt: str, want: list[str]) -> None:
    assert said(prompt) == want


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_words_are_runs_in_order_with_no_edge_of_punctuation(prompt: str) -> None:
    end = 0
    for word in words_of(prompt):
        assert word.start >= end and prompt[word.start : word.end] == word.text and not any(c.isspace() for c in word.text)
        assert all(edge not in ".,;:()[]*-'«😀" for edge in (word.text[0], word.text[-1]))
        end = word.end
    assert {c for w in words_of(prompt) for c in w.text} >= {c for c in prompt if c.isalnum() or c == "_"}


@given(TEXTS, st.data())
@settings(max_examples=300, deadline=None)
def test_a_word_that_is_cut_out_is_gone_and_the_others_stay(prompt: str, data: st.DataObject) -> None:
    words = words_of(prompt)
    if not words:
        return
    out = sorted(data.draw(st.sets(st.integers(0, len(words) - 1))))
    left = cut_out(prompt, [(words[i].start, words[i].end) for i in out])
    assert said(left) == [w.text for i, w in enumerate(words) if i not in out]
    assert len(left) <= len(prompt) - sum(len(words[i].text) for i in out) and (out or left == prompt)


@pytest.mark.parametrize(
    ("prompt", "word", "want"),
    [
        ("Left effusion.", "effusion", "Left."),
        ("Left effusion.", "Left", "effusion."),
        ("a (small one) b", "small", "a (one) b"),
        ("a (small one) b", "one", "a (small) b"),
        ("to ___, stable", "___", "to, stable"),
        ("one", "one", ""),
        ("of ___-year", "___", "of -year"),
    ],
)
def test_spaces_go_with_the_word(prompt: str, word: str, want: str) -> None:
    start = prompt.index(word)
    assert cut_out(prompt, [(start, start + len(word))]) == want


def test_spans_must_be_apart_and_inside() -> None:
    assert cut_out("a ____ b", [(4, 6), (2, 4)]) == "a b"
    for spans in ([(0, 3), (2, 4)], [(-1, 2)], [(3, 2)], [(0, 99)]):
        with pytest.raises(ValueError, match=r"^spans must lie in the prompt's 8 characters and apart from each other$"):
            cut_out("a secret", spans)


@pytest.fixture(scope="module", params=["clip", "bert"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    directory: Path = request.getfixturevalue("pipeline_dir" if request.param == "clip" else "v_pipeline_dir")
    return AutoTokenizer.from_pretrained(directory / "tokenizer", local_files_only=True)


PROMPTS = ["PA view.  Small LEFT effusion, xyzzy (___).", "", "effusion " * 200, "É pleural e\u0301 😀 effusion"]


def test_offsets_are_of_the_same_tokens_and_lie_in_the_prompt(tokenizer: Any) -> None:
    offsets, ids, layout = token_offsets(tokenizer, PROMPTS), tokenize(tokenizer, PROMPTS), token_layout(tokenizer, PROMPTS)
    assert offsets.shape == (*ids.shape, 2)
    own = layout.section("prompt")
    assert bool((offsets[~own] == 0).all()) and bool((offsets[own][:, 1] > offsets[own][:, 0]).all())
    for row, prompt in enumerate(PROMPTS):
        assert int(offsets[row].max()) <= len(prompt)


def test_sub_words_are_put_together_by_offset(tokenizer: Any) -> None:
    prompt = PROMPTS[0]
    words, offsets = words_of(prompt), token_offsets(tokenizer, PROMPTS)[0]
    counts = aggregate_to_words([1.0] * len(offsets), offsets, words)
    texts = [prompt[start:end] for start, end in offsets.tolist()]
    # every token within a word counts once for it, whatever the pieces are called
    for word, count in zip(words, counts, strict=True):
        inside = [t for t, (a, b) in zip(texts, offsets.tolist(), strict=True) if a < word.end and b > word.start]
        assert count == len(inside) and "".join(inside) == word.text
    assert [w.text for w in words] == ["PA", "view", "Small", "LEFT", "effusion", "xyzzy", "___"]
    assert max(c for c in counts if c) > 1  # xyzzy is in no vocabulary
    punctuation = sum(text in {".", ",", "(", ")", ")."} for text in texts)
    assert sum(c for c in counts if c) + punctuation == int(token_layout(tokenizer, PROMPTS).section("prompt")[0].sum())


def test_words_that_were_cut_have_no_score(tokenizer: Any) -> None:
    words, offsets = words_of(PROMPTS[2]), token_offsets(tokenizer, PROMPTS)[2]
    scores = aggregate_to_words(torch.ones(len(offsets)), offsets, words)
    assert scores[0] is not None and scores[-1] is None and len(scores) == 200
    assert sum(s is not None for s in scores) == int(token_layout(tokenizer, PROMPTS).section("prompt")[2].sum())


def test_reductions() -> None:
    words = (Word("abc", 0, 3), Word("de", 4, 6), Word("cut", 7, 10))
    offsets = [(0, 0), (0, 1), (1, 3), (4, 6), (0, 0)]
    scores = [100.0, 1.0, 3.0, 5.0, 100.0]
    assert aggregate_to_words(scores, offsets, words) == (4, 5, None)
    assert aggregate_to_words(scores, offsets, words, "mean") == (2, 5, None)
    assert aggregate_to_words(scores, offsets, words, "max") == (3, 5, None)
    assert aggregate_to_words([10.0], [(1, 6)], words) == (5, 5, None)  # two characters in each
    with pytest.raises(ValueError, match="one of sum, mean, max, not 'median'"):
        aggregate_to_words(scores, offsets, words, "median")
    with pytest.raises(ValueError, match="5 scores for 1 tokens"):
        aggregate_to_words(scores, offsets[:1], words)


@given(TEXTS, st.data())
@settings(max_examples=200, deadline=None)
def test_no_score_is_lost_or_counted_twice(prompt: str, data: st.DataObject) -> None:
    words = words_of(prompt)
    edges = st.integers(0, len(prompt))
    offsets = [tuple(sorted(pair)) for pair in data.draw(st.lists(st.tuples(edges, edges), max_size=8))]
    scores = data.draw(st.lists(st.integers(-9, 9).map(float), min_size=len(offsets), max_size=len(offsets)))
    total = sum(s for s in aggregate_to_words(scores, offsets, words) if s is not None)  # type: ignore[arg-type]
    met = [any(a < w.end and b > w.start for w in words) and b > a for a, b in offsets]
    assert total == pytest.approx(sum(s for s, m in zip(scores, met, strict=True) if m), abs=1e-9)


def test_a_tokenizer_without_offsets_says_so(tmp_path: Path) -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match=r"the tokenizer \(Slow\) does not say which characters.*tokenizer.json"):
        token_offsets(Slow(), ["a"])
    assert BertTokenizerFast(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}).is_fast


def test_leave_one_word_out() -> None:
    """Score = the length of all words with an e, so that each of them makes its own length; more under the noise of another prompt."""
    calls: list[list[tuple[str, str]]] = []
    own = prompt_key("no edema")

    def score(prompts: Any, keys: Any) -> list[float]:
        calls.append(list(zip(prompts, keys, strict=True)))
        return [(10.0 if key == own else 1.0) * sum(len(w) for w in said(p) if "e" in w) for p, key in calls[-1]]

    changes = leave_one_word_out(["Left effusion, no edema.", "", "no edema", "no edema"], score)
    assert changes == [(4, 8, 0, 5), (), (0, 50), (0, 50)]
    assert len(calls) == 1 and ("Left, no edema.", prompt_key("Left effusion, no edema.")) in calls[0]
    with pytest.raises(ValueError, match="1 scores came back for 3 prompts"):
        leave_one_word_out(["a b"], lambda prompts, keys: [0.0])


def test_scores_may_be_a_tensor_but_not_too_few() -> None:
    assert score_unique(lambda prompts: torch.arange(len(prompts)), ["a", "b", "a"]) == {"a": 0.0, "b": 1.0}
    with pytest.raises(ValueError, match="1 scores came back for 2 prompts"):
        score_unique(lambda prompts: [0.0], ["a", "b"])


def test_text_is_in_no_repr() -> None:
    assert "secret" not in repr(words_of("a secret"))
