"""The causal marker test against loops over prompts."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from cxrguard.audit.marker_test import MarkerCase, compare_wordings, marker_case, marker_test
from cxrguard.probes.words import words_of
from cxrguard.randomness import numpy_generator, prompt_key

LEADS = ("Compared to ___,", "Since the radiograph of ___,", "In comparison with the study of ___ ,")
TAILS = ("small left effusion is unchanged", "the hila are stable in appearance today", "no new opacity in the right upper lobe")
PROMPTS = [f"{lead} {tail}. Note case {i}." for i in range(8) for lead in LEADS for tail in TAILS]


def count_tokens(text: str) -> int:
    return 2 + sum(len(word.text) // 4 + 1 for word in words_of(text))


def case_of(prompt: str, cluster: object = None) -> MarkerCase | None:
    spans = [m.span() for m in re.finditer("___", prompt)]
    lead = next(lead for lead in LEADS if prompt.startswith(lead))
    return marker_case(prompt, spans, prompt[len(lead) + 1 :].capitalize(), count_tokens, seed=3, cluster=cluster)


def cases() -> list[MarkerCase]:
    return [case for i, prompt in enumerate(PROMPTS) if (case := case_of(prompt, f"patient {i // 3}"))]


def scorer(marker: float, word: float) -> type:
    """A model whose score is its noise, plus what the marker and what each word adds; the noise is the key's."""

    class Scorer:
        def __init__(self) -> None:
            self.calls: list[tuple[str, str]] = []

        def __call__(self, prompts: Sequence[str], keys: Sequence[str]) -> torch.Tensor:
            self.calls.extend(zip(prompts, keys, strict=True))
            noise = [numpy_generator(key).normal(0, 10) for key in keys]
            own = [numpy_generator(prompt).normal(0, 0.1) for prompt in prompts]
            added = [marker * ("___" in prompt) + word * len(words_of(prompt)) for prompt in prompts]
            return torch.tensor([sum(parts) for parts in zip(noise, own, added, strict=True)], dtype=torch.float64)

    return Scorer


def test_the_placebo_has_as_many_tokens_as_the_sanitized_and_keeps_the_markers() -> None:
    found = [case for case in cases() if case.placebo]
    assert len(found) > 0.8 * len(PROMPTS)
    for case in found:
        assert case.placebo and count_tokens(case.placebo) == count_tokens(case.sanitized) < count_tokens(case.original)
        assert case.placebo.count("___") == case.original.count("___") and case.placebo != case.sanitized


def test_the_figures_are_those_of_a_loop() -> None:
    score = scorer(2.0, 0.1)()
    found = marker_test(cases(), score, batch_size=7)
    sanitized, placebo, by_patient = [], [], {}
    for case in cases():
        if case.placebo is None:
            continue
        key = prompt_key(case.original)
        original, without, other = (float(score([text], [key])) for text in (case.original, case.sanitized, case.placebo))
        sanitized.append(without - original)
        placebo.append(other - original)
        by_patient.setdefault(case.cluster, []).append(without - other)
    n = len(sanitized)
    assert found["sanitized"]["n"] == found["placebo"]["n"] == found["marker"]["n"] == n
    assert found["n_without_placebo"] == len(cases()) - n and found["n_not_finite"] == 0
    assert found["sanitized"]["mean"] == pytest.approx(sum(sanitized) / n)
    assert found["placebo"]["mean"] == pytest.approx(sum(placebo) / n)
    assert found["marker"]["mean"] == pytest.approx(found["sanitized"]["mean"] - found["placebo"]["mean"])
    assert found["marker"]["n_clusters"] == len(by_patient)
    rng = np.random.default_rng(5)
    groups, means = list(by_patient.values()), []
    for _ in range(2000):
        drawn = [x for i in rng.integers(0, len(groups), len(groups)) for x in groups[i]]
        means.append(sum(drawn) / len(drawn))
    assert found["marker"]["ci"] == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.03)


def test_one_noise_key_a_prompt() -> None:
    score = scorer(1.0, 0.0)()
    marker_test(cases(), score)
    keys = {key: {text for text, k in score.calls if k == key} for _, key in score.calls}
    for case in cases():
        if case.placebo:
            assert keys[prompt_key(case.original)] == {case.original, case.sanitized, case.placebo}


@pytest.mark.parametrize(
    ("marker", "word", "told"), [(2.0, 0.0, -2.0), (2.0, 0.3, -2.0), (0.0, 0.3, 0.0), (0.0, 0.0, 0.0), (-1.0, 0.3, 1.0)]
)
def test_it_tells_the_marker_from_any_edit_of_this_length(marker: float, word: float, told: float) -> None:
    found = marker_test(cases(), scorer(marker, word)())
    low, high = found["marker"]["ci"]
    assert low < high
    if marker:
        assert (low > 0 or high < 0) and found["marker"]["mean"] == pytest.approx(told, abs=0.6)
        assert found["sanitized"]["mean"] == pytest.approx(-marker - word * _gone("sanitized"), abs=0.2)
    elif word:  # sanitizing alone lowers the score clearly, and the placebo shows why
        assert found["sanitized"]["ci"][1] < 0 and found["placebo"]["ci"][1] < 0
        assert abs(found["marker"]["mean"]) < 0.35 * abs(found["sanitized"]["mean"])
    else:
        assert low < 0 < high


def _gone(kind: str) -> float:
    found = [case for case in cases() if case.placebo]
    return float(np.mean([len(words_of(case.original)) - len(words_of(getattr(case, kind))) for case in found]))


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_pairs_give_null_with_a_reason(n: int) -> None:
    found = marker_test([case for case in cases() if case.placebo][:n], scorer(1.0, 0.0)())
    for name in ("sanitized", "placebo", "marker"):
        assert found[name]["mean"] is None and found[name]["ci"] is None and "two pairs are needed" in found[name]["reason"]


def test_a_prompt_with_a_score_that_is_no_number_is_left_out_of_all() -> None:
    scores = np.random.default_rng(0).normal(size=(6, 3))
    whole = compare_wordings(np.delete(scores, 2, axis=0), [0, 1, 3, 4, 5])
    scores[2, 1] = np.nan
    found = compare_wordings(scores, range(6))
    assert found["n_not_finite"] == 1 and whole["n_not_finite"] == 0
    assert all(found[name] == whole[name] for name in ("sanitized", "placebo", "marker"))


def test_what_cannot_be_compared_is_no_case_and_text_is_in_no_repr() -> None:
    assert marker_case("No marker.", [], "No marker.", count_tokens, seed=0) is None
    assert marker_case("Since ___.", [(6, 9)], "", count_tokens, seed=0) is None
    case = marker_case("___ hernia", [(0, 3)], "Hernia, seen before", count_tokens, seed=0)
    assert case and case.placebo is None and "ernia" not in repr(case)  # the sanitized prompt is longer: no such placebo
    with pytest.raises(ValueError, match="2 scores came back for 3 prompts"):
        marker_test([case_of(PROMPTS[0])] if (case_of(PROMPTS[0])) else [], lambda prompts, keys: [0.0, 1.0])  # type: ignore[list-item]
