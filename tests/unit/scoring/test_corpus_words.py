"""The corpus view and how the two attributions agree, against plain counts and other implementations."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from cxrguard.audit.intervals import MIN_CLUSTERS
from cxrguard.audit.paired import t_interval
from cxrguard.probes.words import words_of
from cxrguard.scoring.agreement import Agreement, rank_correlation
from cxrguard.scoring.attribution import Attribution, Piece
from cxrguard.scoring.clustered import ClusteredMean
from cxrguard.scoring.corpus_words import CorpusWords
from cxrguard.scoring.cue_words import top_cues


def attributed(prompt: str, product: list[float], ablation: list[float | None], sections: tuple[Piece, ...] = ()) -> Attribution:
    words = words_of(prompt)
    pieces = [Piece("word", i, w.start, w.end, abs(p), p, a) for i, (w, p, a) in enumerate(zip(words, product, ablation, strict=True))]
    token = Piece("token", 1, words[0].start, words[0].end, 99.0, 99.0, None)
    return Attribution((token, *pieces), False, sections)


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_from_sums_is_that_of_the_values(seed: int) -> None:
    generator, sums = np.random.default_rng(seed), ClusteredMean()
    values, ids = [], []
    for cluster in range(2 + 5 * seed):
        some = (100 + generator.normal(cluster % 3, 1, size=generator.integers(1, 5))).tolist()
        sums.add(some)
        values += some
        ids += [cluster] * len(some)
    sums.add([])
    assert (sums.n, sums.clusters) == (len(values), 2 + 5 * seed)
    assert sums.mean == pytest.approx(np.mean(values), rel=1e-12)
    assert sums.interval == pytest.approx(t_interval(np.array(values), np.array(ids)), rel=1e-6)


def test_what_cannot_be_had_is_null_with_a_reason() -> None:
    empty, one = ClusteredMean(), ClusteredMean()
    one.add([1.0, 3.0])
    assert MIN_CLUSTERS == 2
    assert empty.told() == {"n": 0, "n_prompts": 0, "mean": None, "ci": None, "reason": "two prompts are needed; there are 0"}
    assert one.told() == {"n": 2, "n_prompts": 1, "mean": 2.0, "ci": None, "reason": "two prompts are needed; there is 1"}


def test_rank_correlation_is_spearmans() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        a, b = generator.integers(0, 5, 8), generator.normal(size=8)
        assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None


def corpus() -> CorpusWords:
    words = CorpusWords()
    for i in range(6):
        shift = 0.01 * i
        words.add(
            "Since ___ clear lungs, clear.", attributed("Since ___ clear lungs, clear.", [1, 3, -2 + shift, 0, 1], [2, 4 + shift, 2, -1, 0])
        )
    for i in range(4):
        prompt = "Edema since then"
        words.add(prompt, attributed(prompt, [-3 + 0.1 * i, 1, 1], [5 + 0.1 * i, -2, None]))
    return words


def test_words_are_ranked_with_counts_intervals_and_markers() -> None:
    buffer = io.BytesIO()
    assert corpus().write("w.csv", buffer, 4, lambda word: word, "word") == 6
    found = pd.read_csv(io.BytesIO(buffer.getvalue())).set_index("word")
    assert found["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    # ranked by the ablation, "then" by what it has instead
    assert found.index.tolist() == ["edema", "___", "clear", "then", "since", "lungs"]
    assert found["marker"].to_dict() == dict.fromkeys(found.index, False) | {"___": True}
    assert found.loc["since", ["prompts", "places"]].tolist() == [10, 10]
    assert found.loc["clear", ["prompts", "places"]].tolist() == [6, 12]
    assert found.loc["since", "ablation"] == pytest.approx((6 * 2 - 4 * 2) / 10)
    for name in ("gradient", "gradient_times_input", "ablation"):
        known = found.dropna(subset=[name])
        assert (known[f"{name}_low"] <= known[name]).all() and (known[name] <= known[f"{name}_high"]).all()
    values = np.array([2.0] * 6 + [-2.0] * 4)
    assert found.loc["since", ["ablation_low", "ablation_high"]].tolist() == pytest.approx(t_interval(values, np.arange(10)))
    assert found["disagree"].to_dict() == dict.fromkeys(found.index, False) | {"edema": True, "clear": True}
    assert found.loc["edema", "opposite_signs"] == 1.0 and found.loc["clear", "opposite_signs"] == 0.5
    assert np.isnan(found.loc["then", "opposite_signs"])
    assert [word for word, _ in corpus().ranked(5)] == ["___", "clear", "since", "lungs"]


def test_top_cues_are_the_first_of_the_ranked_that_may_go() -> None:
    words = CorpusWords()
    for _ in range(3):
        words.add("Here effuse thus", attributed("Here effuse thus", [-1, -1, -1], [1.0, 9.0, 2.0]))
    words.add("also effuse thus", attributed("also effuse thus", [-1, -1, -1], [5.0, 9.0, -1.0]))
    top, passed = top_cues(words, 5, 3)
    assert [(cue.word, cue.prompts, cue.score) for cue in top] == [("thus", 4, 1.25), ("here", 3, 1.0)]
    assert passed == 1  # "effuse" is no function word
    assert [cue.word for cue in top_cues(words, 1, 1)[0]] == ["also"]
    assert top_cues(words, 5, 9) == ([], 0)


def test_agreement_is_within_prompts() -> None:
    agreement = Agreement()
    sections = tuple(Piece("section", i, 0, 0, gradient, float(i), None) for i, gradient in enumerate((1.0, 2.0, 3.0, None)))
    cases = [([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), ([100.0, 300.0, 200.0], [-3.0, -1.0, 2.0]), ([1.0, 2.0], [2.0, 1.0])]
    for product, ablation in cases:
        agreement.add(attributed("one two three"[: 13 if len(product) == 3 else 7], product, list(ablation), sections))
    told = agreement.told()
    rhos = [1.0, spearmanr(*cases[1]).statistic]
    assert told["rank_correlation_with_ablation"]["gradient_times_input"]["mean"] == pytest.approx(np.mean(rhos))
    assert told["rank_correlation_with_ablation"]["gradient_times_input"]["n"] == 2  # two words have no correlation
    assert told["words_of_opposite_sign"]["mean"] == pytest.approx(2 / 8)
    assert told["prompts_of_another_top_word"]["mean"] == 0.5
    assert [told["sections"][name]["gradient"]["mean"] for name in ("begin", "prompt", "end", "padding")] == [1, 2, 3, None]
    assert told["sections"]["padding"]["gradient"]["reason"] and told["sections"]["padding"]["gradient_times_input"]["mean"] == 3
    assert all(a <= b for a, b in pairwise(told["words_of_opposite_sign"]["ci"]))
