"""Which words are shown and what they contribute; the marker test on judged prompts; what is withheld."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cxrguard.audit import explain as module
from cxrguard.audit.explain import ReportSettings, explain, marker_tests, word_table
from cxrguard.audit.groups import Group, Judged, Variant
from cxrguard.audit.known_words import is_known
from cxrguard.audit.record import _nulls, null_reason
from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.diffusion.encoding import encode_prompts, token_layout
from cxrguard.diffusion.loading import load_pipeline
from cxrguard.errors import CxrguardError
from cxrguard.probes.attribution import attribute_tokens
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_noise_norm import TextNoiseNorm
from cxrguard.probes.words import aggregate_to_words, token_offsets, words_of
from cxrguard.randomness import prompt_key

NAME = "Zzyzx"  # of a doctor, say: every patient has it
PROMPTS = {
    "canaries": [f"Compared to ___, the heart is large. {NAME} saw patient q{i}." for i in range(3)],
    "controls": [f"Since ___, the heart is normal. {NAME} saw patient r{i}." for i in range(3)],
    "members": ["Clear lungs and a normal heart.", f"Seen by Dr.___{NAME}, a normal heart."],
}


@pytest.fixture(scope="module")
def setting(pipeline_dir: Path) -> tuple[Any, UNetDenoiser]:
    parts = load_pipeline(str(pipeline_dir))
    for part in (parts.unet, parts.text_encoder):
        part.eval()

    def group(name: str, prompts: list[str]) -> Group:
        n = len(prompts)
        keys = tuple(map(prompt_key, prompts))
        variant = Variant(encode_prompts(parts, prompts), keys, token_layout(parts.tokenizer, prompts), tuple(prompts))
        images, latents = torch.zeros(n, 1, 64, 64), torch.zeros(n, 4, 8, 8)
        subjects = tuple(f"{name}{i}" for i in range(n))
        return Group(name, images, latents, (variant,), torch.arange(n), subjects, (1,) * n, tuple(prompts))

    references: Any = None
    judged = Judged({name: group(name, prompts) for name, prompts in PROMPTS.items()}, references, encode_prompts(parts, [""]))
    sampler = SimpleNamespace(scheduler_config=parts.scheduler.config)
    evaluator = SimpleNamespace(judged=judged, parts=parts, seed=3, sampler=sampler, batch_size=2)
    return evaluator, UNetDenoiser(parts.unet, parts.alphas_cumprod, parts.prediction_type)


def by_prompt(evaluator: Any, denoiser: UNetDenoiser, wanted: str) -> list[float]:
    """What a word contributes at each of its places, each prompt attributed alone."""
    found = []
    for name, prompts in PROMPTS.items():
        for i, prompt in enumerate(prompts):
            batch = evaluator.judged.groups[name].take([i])
            part = Judged({name: batch}, None, evaluator.judged.uncond_hidden_states)  # type: ignore[arg-type]
            told = attribute_tokens(denoiser, part.batch(name, 0, 3, evaluator.sampler.scheduler_config), seeds=module.GRADIENT_SEEDS)
            words = words_of(prompt)
            offsets = token_offsets(evaluator.parts.tokenizer, [prompt])[0]
            scores = aggregate_to_words(told.gradient_times_input[0], offsets, words, "sum")
            found += [score for word, score in zip(words, scores, strict=True) if word.text.lower() == wanted and score is not None]
    return found


def test_a_words_contribution_is_the_mean_over_its_places(setting: tuple[Any, UNetDenoiser]) -> None:
    evaluator, denoiser = setting
    table = word_table(evaluator, denoiser, 5)
    rows = {row["word"]: row for row in table["top"]}
    values = by_prompt(evaluator, denoiser, "heart")
    assert len(values) == rows["heart"]["patients"] == 8 and table["prompts"] == table["patients"] == 8
    assert rows["heart"]["contribution"] == pytest.approx(np.mean(values), rel=1e-3, abs=1e-5)
    assert rows["heart"]["canaries"] == pytest.approx(np.mean(values[:3]), rel=1e-3, abs=1e-5)
    assert rows["heart"]["others"] == pytest.approx(np.mean(values[3:]), rel=1e-3, abs=1e-5)
    low, high = rows["heart"]["contribution_ci"]
    assert low <= rows["heart"]["contribution"] <= high
    shown = [row["contribution"] for row in table["top"]]
    assert shown == sorted(shown, reverse=True) and all(p.grad is None for p in evaluator.parts.unet.parameters())


def test_markers_are_flagged_and_what_is_glued_to_one_is_not_shown(setting: tuple[Any, UNetDenoiser]) -> None:
    table = word_table(*setting, min_patients=7)
    (marker,) = [row for row in table["top"] if row["marker"]]
    assert marker["word"] == "___" and marker["patients"] == 7
    assert NAME.lower() not in json.dumps(table).lower()


def test_rare_words_and_names_are_withheld_and_counted(setting: tuple[Any, UNetDenoiser]) -> None:
    evaluator, denoiser = setting
    known, every = (word_table(evaluator, denoiser, 6, may_show) for may_show in (is_known, None))
    words = {row["word"] for row in every["top"]}
    assert words == {"___", "heart", "the", "is", "saw", "patient", NAME.lower()}
    assert {row["word"] for row in known["top"]} == words - {NAME.lower(), "saw"} and known["unknown"] == 2 and every["unknown"] == 0
    assert known["rare"] == every["rare"] > 6
    gaps = {row["word"]: row["rank"] for row in every["top"]}
    assert {row["word"]: row["rank"] for row in known["top"]} == {w: r for w, r in gaps.items() if w not in (NAME.lower(), "saw")}
    assert word_table(evaluator, denoiser, 9)["top"] == []


def test_only_the_most_are_listed_and_all_markers(setting: tuple[Any, UNetDenoiser]) -> None:
    table = word_table(*setting, min_patients=5, most=1)
    assert len([row for row in table["top"] if not row["marker"]]) <= 1
    assert [row["word"] for row in table["top"] if row["marker"]] == ["___"]


def test_the_marker_test_scores_each_wording_under_the_prompts_own_noise(setting: tuple[Any, UNetDenoiser]) -> None:
    evaluator, denoiser = setting
    told = marker_tests(evaluator, denoiser)
    assert told["direction"] == "higher" and told["reason"] is None
    held = {name: group["n_prompts"] for name, group in told["groups"].items()}
    assert held == {"canaries": 3, "controls": 3}, "the member with the glued marker is refused"
    cases = module._cases(evaluator, evaluator.judged.groups["canaries"])
    probe, differences = TextNoiseNorm(seeds=module.SEEDS), []
    for case in cases:
        scores = []
        for text in (case.original, case.sanitized):
            states = encode_prompts(evaluator.parts, [text])
            uncond, config = evaluator.judged.uncond_hidden_states, evaluator.sampler.scheduler_config
            batch = ProbeBatch(states, uncond, torch.zeros(1, 4, 8, 8), (prompt_key(case.original),), 3, config)
            scores.append(float(probe(denoiser, batch)))
        differences.append(scores[1] - scores[0])
    assert told["groups"]["canaries"]["sanitized"]["mean"] == pytest.approx(np.mean(differences), rel=1e-3, abs=1e-5)
    assert "___" not in cases[0].sanitized and cases[0].placebo is not None and "___" in cases[0].placebo


def test_every_null_has_a_reason(setting: tuple[Any, UNetDenoiser]) -> None:
    reasons = {"words.top.*.canaries": "x", "words.top.*.others": "x"}  # as the audit has them
    told = explain(*setting, ReportSettings(min_patients=5)) | {"null_reasons": reasons}
    assert [path for path in _nulls(told) if null_reason(told, path) is None] == []
    off = explain(*setting, ReportSettings(words="off"))
    assert [null_reason(off, path) for path in _nulls(off)] == ["not asked for (report.words=off)"] * 2


def test_without_markers_there_is_no_marker_test(setting: tuple[Any, UNetDenoiser], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_markers", lambda *_: [])
    told = marker_tests(*setting)
    assert told["groups"] is None and "no judged prompt holds a marker" in told["reason"]
    assert not any(row["marker"] for row in word_table(*setting, min_patients=5)["top"])


@pytest.mark.parametrize(("error", "said"), [(torch.OutOfMemoryError("x"), "out of memory"), (CxrguardError("not fast"), "not fast")])
def test_a_look_that_fails_does_not_cost_the_audit(
    setting: tuple[Any, UNetDenoiser], monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(module, "attribute_tokens", fail)
    told = explain(*setting, ReportSettings(min_patients=5))
    assert told["words"]["top"] is None and said in told["words"]["reason"] and told["marker_test"]["groups"]


def test_settings_refuse_what_points_to_somebody() -> None:
    with pytest.raises(CxrguardError, match=r"report\.min_patients=4.*set 5 or more"):
        ReportSettings(min_patients=4)
    with pytest.raises(CxrguardError, match="known, all, off"):
        ReportSettings.of({"report": {"words": "some"}})
    assert ReportSettings.of({"report": {"words": False, "show_images": False, "other": 1}}) == ReportSettings(False, words="off")
    assert ReportSettings.of({}) == ReportSettings(show_prompts=False, words="known", min_patients=20)


@pytest.mark.parametrize("word", ["effusion", "pneumothorax", "heart", "unchanged", "the", "calcified", "compared", "cardiomegaly"])
def test_ordinary_words_are_known(word: str) -> None:
    assert is_known(word)


@pytest.mark.parametrize("word", ["miller", "zzyzx", "p10000032", "77-year-old", "2012", "", "Heart", "heart2", "heart\n"])
def test_names_and_numbers_are_not(word: str) -> None:
    assert not is_known(word)
