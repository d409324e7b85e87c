"""Mitigations at inference in the audit: the audit's own samples and scores, figures that fit ``audit.json``, nothing withheld counted."""

from __future__ import annotations

import json
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cxrguard.audit.evaluate import Evaluator
from cxrguard.audit.groups import Group, Judged, References, Variant
from cxrguard.audit.inference_mitigations import judge_inference_mitigations
from cxrguard.audit.intervals import wilson
from cxrguard.audit.mitigated import MitigatedGroup, mitigated_batch
from cxrguard.audit.record import validate_audit
from cxrguard.audit.statistics import roc_auc
from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.diffusion.encoding import decode_latents, encode_prompts, token_layout
from cxrguard.diffusion.loading import load_pipeline
from cxrguard.diffusion.sampling import Sampler
from cxrguard.mitigations.inference.attention_rescaling import AttentionRescaling
from cxrguard.mitigations.inference.base import InferenceMitigation, Vocabulary
from cxrguard.mitigations.inference.embedding_optimization import EmbeddingOptimization
from cxrguard.mitigations.inference.initial_noise import InitialNoise
from cxrguard.mitigations.inference.marker_removal import MarkerRemoval
from cxrguard.mitigations.inference.static_transition import StaticTransition
from cxrguard.mitigations.inference.vocabulary import TokenizerVocabulary
from cxrguard.probes.bright_ending import BrightEnding
from cxrguard.probes.text_noise_norm import TextNoiseNorm
from cxrguard.randomness import prompt_key

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_audit.py")))
WORDINGS = {
    "canaries": [["PA view. Since ___, clear.", "AP view. Compared to ___, stable."], ["PA view. Clear.", "AP view. Stable."]],
    "controls": [["___", "No effusion since ___.", "Clear lungs."], ["Clear.", "No effusion.", "Clear lungs."]],
}
PROBE = TextNoiseNorm(seeds=2)


class Withholding(InferenceMitigation):
    """Generates from nothing."""

    name = "withholding"
    acts_on = ("prompt",)

    def rewrite(self, prompts: Sequence[str], seed: int, vocabulary: Vocabulary) -> list[str | None]:
        return [None] * len(prompts)


MITIGATIONS = [MarkerRemoval(), EmbeddingOptimization(iterations=2, target=0.0), AttentionRescaling(), StaticTransition(),
               InitialNoise(rho=3.0), Withholding()]  # fmt: skip


@pytest.fixture(scope="module", params=["pipeline_dir", "v_pipeline_dir"])
def setting(request: pytest.FixtureRequest) -> tuple[Evaluator, UNetDenoiser]:
    parts = load_pipeline(str(request.getfixturevalue(request.param)))
    for part in (parts.unet, parts.text_encoder, parts.vae):
        part.eval()
    denoiser = UNetDenoiser(parts.unet, parts.alphas_cumprod, parts.prediction_type)
    shape = (parts.unet.config.in_channels, 8, 8)
    generator = torch.Generator().manual_seed(0)
    training, null = torch.randn(4, *shape, generator=generator), torch.randn(110, *shape, generator=generator) * 3
    pixels = [decode_latents(parts, x) for x in (training, null)]
    groups = {}
    for name, wordings in WORDINGS.items():
        n = len(wordings[0])
        variants = tuple(
            Variant(encode_prompts(parts, w), tuple(map(prompt_key, w)), token_layout(parts.tokenizer, w), tuple(w)) for w in wordings
        )
        own = torch.arange(n) if name == "canaries" else torch.full((n,), -1)
        groups[name] = Group(
            name, pixels[0][:n], training[:n], variants, own, tuple(f"{name}{i}" for i in range(n)), (1,) * n, tuple(wordings[0])
        )
    references = References(
        {"pixels": pixels[0].flatten(1), "latents": training.flatten(1)}, {"pixels": pixels[1].flatten(1), "latents": null.flatten(1)},
        pixels[0],
    )  # fmt: skip
    judged = Judged(groups, references, encode_prompts(parts, [""]))
    evaluator = Evaluator(parts, judged, Sampler(parts.scheduler.config, 3, 3.0, batch_size=5), 3, batch_size=2)
    evaluator.thresholds = dict.fromkeys(evaluator.thresholds, 10.0)  # everything is a replay: rates come from what is withheld
    return evaluator, denoiser


@pytest.fixture(scope="module")
def told(setting: tuple[Evaluator, UNetDenoiser]) -> dict[str, Any]:
    return judge_inference_mitigations(*setting, MITIGATIONS, 2, [PROBE, BrightEnding(schedule_steps=2)])


def test_none_is_the_audit_itself(setting: tuple[Evaluator, UNetDenoiser], told: dict[str, Any]) -> None:
    evaluator, denoiser = setting
    assert list(told["mitigations"]) == ["none", *(m.name for m in MITIGATIONS)]
    assert (told["space"], told["samples_per_prompt"], told["wordings"]) == ("pixels", 2, 2)
    entry = told["mitigations"]["none"]
    scores = {}
    for name in WORDINGS:
        generated = evaluator.generate(denoiser, name, 2)
        group = MitigatedGroup(evaluator, InferenceMitigation(), name, TokenizerVocabulary(evaluator.parts.tokenizer))
        torch.testing.assert_close(group.generate(denoiser, 2).generated.pixels, generated.pixels, rtol=1e-4, atol=1e-5)
        for outcome in ("own", "any"):
            hits = generated.hits("pixels", outcome, 2)
            assert entry[name][f"{outcome}_rate"] == pytest.approx(float(hits.float().mean()))
            assert entry[name][f"{outcome}_ci"] == pytest.approx(list(wilson(int(hits.sum()), len(hits)) or ()))
            assert entry[name][f"{outcome}_difference"]["mean"] == 0
        assert entry[name]["change"] == 0 and entry[name]["evals_per_prompt"] == 2 * 3 * 2 and entry[name]["withheld"] == 0
        scores[name] = evaluator.score(denoiser, PROBE, name)
        assert entry["detectors"][PROBE.name][f"{name}_mean"] == pytest.approx(scores[name].mean(), rel=1e-4)
    assert entry["detectors"][PROBE.name]["auc"] == roc_auc(scores["canaries"], scores["controls"])


def test_what_is_withheld_neither_replays_nor_scores(told: dict[str, Any]) -> None:
    entry = told["mitigations"]["withholding"]
    for name, n in (("canaries", 2), ("controls", 3)):
        assert entry[name]["withheld"] == entry[name]["n"] == n
        assert (entry[name]["any_rate"], entry[name]["evals_per_prompt"], entry[name]["change"]) == (0, 0, None)
        assert entry[name]["any_difference"]["mean"] == -1 and entry[name]["reason"] == "every prompt was withheld"
    assert entry["detectors"][PROBE.name]["auc"] is None and "2 canaries have no score" in entry["detectors"][PROBE.name]["reason"]
    partly = told["mitigations"]["marker_removal"]["controls"]  # the first is nothing but a marker, in one of two wordings
    assert partly["withheld"] == 0 and partly["any_rate"] == 1 and partly["evals_per_prompt"] == pytest.approx(12 * 5 / 6)


def test_costs_and_changes(told: dict[str, Any]) -> None:
    for name, evaluations in (
        ("embedding_optimization", 12 + 2 * 3),
        ("attention_rescaling", 12),
        ("static_transition", 12),
        ("initial_noise", 12 + 16),
    ):
        for group in WORDINGS:
            entry = told["mitigations"][name][group]
            assert entry["evals_per_prompt"] == evaluations and entry["change"] > 0
    for name, moved in (
        ("embedding_optimization", True),
        ("attention_rescaling", True),
        ("initial_noise", True),
        ("static_transition", False),
    ):
        entry, plain = (told["mitigations"][n]["detectors"][PROBE.name] for n in (name, "none"))
        if moved:
            assert entry["canaries_mean"] != plain["canaries_mean"]  # by how much is the machine's: the model is tiny
        else:
            assert entry["canaries_mean"] is None and "guidance schedule" in entry["reason"]
    assert "cannot be recorded" in told["mitigations"]["attention_rescaling"]["detectors"]["bright_ending"]["reason"]


def test_the_mitigated_batch_has_the_mitigated_noise(setting: tuple[Evaluator, UNetDenoiser]) -> None:
    evaluator, denoiser = setting
    batch = evaluator.judged.batch("canaries", 0, 3, evaluator.sampler.scheduler_config)
    with torch.no_grad():
        moved = mitigated_batch(denoiser, InitialNoise(rho=3.0), batch)
        for draw in (0, 1):
            assert not torch.allclose(moved.noise(draw), batch.noise(draw))
            alone = torch.cat([mitigated_batch(denoiser, InitialNoise(rho=3.0), part).noise(draw) for part in batch.split(1)])
            torch.testing.assert_close(moved.noise(draw), alone, rtol=1e-4, atol=1e-5)
        other = mitigated_batch(denoiser, EmbeddingOptimization(iterations=2, target=0.0), batch)
    assert torch.equal(other.noise(1), batch.noise(1)) and not torch.allclose(other.encoder_hidden_states, batch.encoder_hidden_states)
    assert mitigated_batch(denoiser, StaticTransition(), batch) is batch


def test_it_fits_the_record(told: dict[str, Any]) -> None:
    audit = FAKE["fake_audit"]() | {"inference_mitigations": json.loads(json.dumps(told, allow_nan=False))}
    validate_audit(audit)
    text = json.dumps(told)
    assert "effusion" not in text and "PA view" not in text and "canaries0" not in text


def test_the_evaluator_is_as_before(setting: tuple[Evaluator, UNetDenoiser], told: dict[str, Any]) -> None:
    evaluator, denoiser = setting
    assert type(evaluator.sampler) is Sampler and set(evaluator.judged.groups) == set(WORDINGS)
    assert np.isfinite(evaluator.score(denoiser, PROBE, "canaries")).all()
