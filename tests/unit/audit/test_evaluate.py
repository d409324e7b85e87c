"""Scoring and generating for a group, with fixed noise, the worse wording counting; and the groups that are judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cxrguard.audit.evaluate import Evaluator, planted_auc
from cxrguard.audit.groups import Group, Judged, References, Variant, build_judged
from cxrguard.data.phantom import PhantomReader
from cxrguard.data.prepare import CanarySettings, PromptedRecord, Study, plan, sanitize_plan
from cxrguard.diffusion.denoiser import UNetDenoiser
from cxrguard.diffusion.encoding import decode_latents, encode_images, encode_prompts, token_layout
from cxrguard.diffusion.loading import PipelineParts, load_pipeline
from cxrguard.diffusion.sampling import Sampler
from cxrguard.errors import BadInputError
from cxrguard.probes.text_noise_norm import TextNoiseNorm
from cxrguard.randomness import normal, prompt_key
from cxrguard.sanitizer.sanitizer import PromptSanitizer

SHAPE = (4, 8, 8)


@pytest.fixture(scope="module")
def parts(pipeline_dir: Path) -> PipelineParts:
    return load_pipeline(str(pipeline_dir))


@pytest.fixture(scope="module")
def study() -> Study:
    records, _ = PhantomReader(n_patients=60, max_studies=2).read()
    pixels = {r.dicom_id: r.pixels for r in records if r.pixels is not None}
    return sanitize_plan(
        plan(records, 0.4, CanarySettings(n=3, repeats=(1, 2, 3), n_controls=5), 0), pixels, PromptSanitizer(["mimic_cxr"], "repair"), 0
    )


class FakeSampler:
    """Returns latents by (state value, draw); the noise tells the draw and is checked."""

    scheduler_config: Any = None

    def __init__(self, latents: dict[tuple[int, int], Tensor], keys: dict[int, str], seed: int) -> None:
        self.latents, self.keys, self.seed = latents, keys, seed

    def __call__(self, denoiser: Any, states: Tensor, uncond: Tensor, noise: Tensor, on_batch: Any = None) -> Tensor:
        out = []
        for state, start in zip(states, noise, strict=True):
            value = int(state[0, 0])
            draw = next(d for d in range(9) if torch.equal(start, normal(SHAPE, "sample", self.seed, self.keys[value], d)))
            out.append(self.latents[value, draw])
        if on_batch:
            on_batch(len(out))
        return torch.stack(out)


def group_of(name: str, variants: int, own_index: list[int], first: int) -> Group:
    """Prompt ``i`` in wording ``v`` has the state value ``first + 10 v + i``."""
    n = len(own_index)
    values = [[first + 10 * v + i for i in range(n)] for v in range(variants)]
    made = tuple(Variant(torch.tensor(row).float()[:, None, None].expand(-1, 2, 3), tuple(f"key{x}" for x in row)) for row in values)
    return Group(
        name,
        torch.zeros(n, 1, 64, 64),
        torch.zeros(n, *SHAPE),
        made,
        torch.tensor(own_index),
        tuple(f"{name}{i}" for i in range(n)),
        tuple([1] * n),
        tuple(f"prompt {i}" for i in range(n)),
    )


@pytest.fixture(scope="module")
def judged(parts: PipelineParts) -> Judged:
    """Six training images, decoded from latents that the sampler can return exactly."""
    generator = torch.Generator().manual_seed(0)
    latents, far = torch.randn(6, *SHAPE, generator=generator), torch.randn(120, *SHAPE, generator=generator) * 3
    training, null = decode_latents(parts, latents), decode_latents(parts, far)
    references = References(
        {"pixels": training.flatten(1), "latents": latents.flatten(1)}, {"pixels": null.flatten(1), "latents": far.flatten(1)}, training
    )
    groups = {"canaries": group_of("canaries", 2, [4, 5], 100), "controls": group_of("controls", 1, [-1, -1, -1], 200)}
    return Judged(groups, references, torch.zeros(1, 2, 3))


def latents_of(judged: Judged, index: int) -> Tensor:
    return judged.references.training["latents"][index].reshape(SHAPE)


def evaluator_of(parts: PipelineParts, judged: Judged, latents: dict[tuple[int, int], Tensor] | None = None, seed: int = 3) -> Evaluator:
    keys = {v: f"key{v}" for v in (*range(100, 102), *range(110, 112), *range(200, 203))}
    return Evaluator(parts, judged, FakeSampler(latents or {}, keys, seed), seed)  # type: ignore[arg-type]


def test_thresholds_come_from_the_null_alone(parts: PipelineParts, judged: Judged) -> None:
    evaluator = evaluator_of(parts, judged)
    assert evaluator.n_null == 120
    for space in ("pixels", "latents"):
        training, null = (x[space].numpy().astype(float) for x in (judged.references.training, judged.references.null))
        distances = sorted(min(float(((a - b) ** 2).mean()) for b in training) for a in null)
        assert evaluator.thresholds[space] == pytest.approx(distances[1], rel=1e-4)  # floor(0.01 · 119)


def test_too_few_real_images_are_refused(parts: PipelineParts, judged: Judged) -> None:
    null = {k: v[:99] for k, v in judged.references.null.items()}
    with pytest.raises(BadInputError, match=r"99 held-out images.*data\.heldout_fraction"):
        evaluator_of(parts, replace(judged, references=replace(judged.references, null=null)))


def test_generate_compares_every_wording_and_draw(parts: PipelineParts, judged: Judged) -> None:
    other = torch.full(SHAPE, 9.0)
    latents = {(v, d): other for v in (100, 101, 110, 111) for d in range(3)}
    latents[110, 1] = latents_of(judged, 4)  # canary 0, second wording, second draw: its own image
    latents[101, 2] = latents_of(judged, 0)  # canary 1, first wording, third draw: another's image
    heard: list[int] = []
    out = evaluator_of(parts, judged, latents).generate(None, "canaries", 3, heard.append)  # type: ignore[arg-type]
    assert out.pixels.shape == (2, 6, 1, 64, 64) and out.per_draw == 2 and heard == [12]
    for space in ("pixels", "latents"):
        assert out.replays[space].own.tolist() == [[False, False, False, True, False, False], [False] * 6]
        assert out.replays[space].any[1].tolist() == [False] * 4 + [True, False]
        assert [out.rate(space, "own", k) for k in (1, 2, 3)] == [0, 0.5, 0.5]
        assert [out.rate(space, "any", k) for k in (1, 2, 3)] == [0, 0.5, 1]
        assert out.hits(space, "own", 3).tolist() == [True, False]
        assert int(out.replays[space].index[1, 4]) == 0
    assert torch.allclose(out.pixels[0, 3], judged.references.training_pixels[4], atol=1e-6)
    assert evaluator_of(parts, judged).n_samples({"canaries": 3, "controls": 2}) == 2 * 2 * 3 + 3 * 2


def test_more_draws_leave_the_first_alone(parts: PipelineParts, judged: Judged) -> None:
    torch.manual_seed(0)
    latents = {(v, d): torch.randn(SHAPE) for v in (200, 201, 202) for d in range(4)}
    few, more = (evaluator_of(parts, judged, latents).generate(None, "controls", k) for k in (2, 4))  # type: ignore[arg-type]
    assert torch.allclose(more.pixels[:, :2], few.pixels, atol=1e-5)


class FakeProbe:
    """The state's first number."""

    name = "fake"
    evals_per_prompt = 1

    def __init__(self, direction: str) -> None:
        self.direction = direction
        self.sizes: list[int] = []

    def __call__(self, denoiser: Any, batch: Any) -> Tensor:
        self.sizes.append(len(batch.keys))
        assert batch.seed == 3
        return batch.encoder_hidden_states[:, 0, 0].clone()


@pytest.mark.parametrize(("direction", "want"), [("higher", [110, 111]), ("lower", [100, 101])])
def test_the_wording_that_looks_more_memorized_counts(parts: PipelineParts, judged: Judged, direction: str, want: list[int]) -> None:
    evaluator, probe = evaluator_of(parts, judged), FakeProbe(direction)
    scores = evaluator.score(None, probe, "canaries")  # type: ignore[arg-type]
    assert scores.dtype == np.float64 and scores.tolist() == want
    evaluator.batch_size = 1
    assert evaluator.score(None, probe, "canaries").tolist() == want and probe.sizes == [2, 2, 1, 1, 1, 1]  # type: ignore[arg-type]


@pytest.mark.parametrize("direction", ["higher", "lower"])
def test_planted_auc_by_counting_pairs(direction: str) -> None:
    scores = {"canaries": np.array([1.0, 4.0, 4.0, 9.0]), "controls": np.array([0.0, 4.0, 5.0])}
    judged = SimpleNamespace(groups={"canaries": SimpleNamespace(repeats=(2, 2, 8, 8))})
    evaluator = SimpleNamespace(score=lambda denoiser, probe, name: scores[name], judged=judged)
    sign = 1 if direction == "higher" else -1
    wins = [(sign * (a - b) > 0) + 0.5 * (a == b) for a in scores["canaries"] for b in scores["controls"]]
    out = planted_auc(evaluator, None, FakeProbe(direction))  # type: ignore[arg-type]
    above = [sum((sign * (b - a) > 0) + 0.5 * (a == b) for b in scores["controls"]) for a in scores["canaries"]]
    bits = [np.log2(4) - np.log2(1 + rank) for rank in above]
    levels = {"2": pytest.approx(np.mean(bits[:2])), "8": pytest.approx(np.mean(bits[2:]))}
    rest = {"exposure": pytest.approx(np.mean(bits)), "canary_mean": 4.5, "control_mean": 3.0}
    assert out == {"auc": pytest.approx(sum(wins) / 12), "tpr_at_1pct_fpr": None, "exposure_by_repeats": levels} | rest


def test_groups_are_encoded_with_their_own_images(parts: PipelineParts, study: Study) -> None:
    judged = build_judged(parts, study, 4, 0, base_stage=study.heldout[:2])
    training = [*study.members, *study.canaries, *study.heldout[:2]]
    assert len(judged.references.training_pixels) == len(training)
    assert len(judged.references.null["pixels"]) == len(study.controls) + len(study.heldout)
    assert torch.equal(judged.uncond_hidden_states, encode_prompts(parts, [""]))
    assert [len(judged.groups[g]) for g in ("canaries", "controls", "members")] == [3, 5, 4]
    assert judged.groups["canaries"].repeats == (1, 2, 3) and set(judged.groups["controls"].own_index.tolist()) == {-1}
    for name in ("canaries", "members"):
        group = judged.groups[name]
        for i, row in enumerate(group.own_index.tolist()):
            sample = training[row]
            assert group.subjects[i] == sample.record.subject_id and group.prompts[i] == sample.record.prompt
            assert torch.equal(group.pixels[i], judged.references.training_pixels[row])
            assert torch.allclose(group.latents[i].flatten(), judged.references.training["latents"][row], atol=1e-4)
    assert torch.equal(judged.references.training["pixels"][:], judged.references.training_pixels[:].flatten(1))


def test_variants_are_the_original_and_the_sanitized_wording(parts: PipelineParts, study: Study) -> None:
    judged = build_judged(parts, study, 4, 0)
    group = judged.groups["canaries"]
    wordings = [[p.record.prompt for p in study.canaries], [p.sanitized for p in study.canaries]]
    assert wordings[0] != wordings[1] and len(group.variants) == 2
    for variant, wording in zip(group.variants, wordings, strict=True):
        assert variant.keys == tuple(prompt_key(p) for p in wording)
        assert torch.allclose(variant.states, encode_prompts(parts, wording), atol=1e-5)
        assert variant.tokens is not None and torch.equal(variant.tokens.end, token_layout(parts.tokenizer, wording).end)
    batch = judged.batch("canaries", 1, 9, None)
    assert (
        batch.tokens is group.variants[1].tokens
        and batch.keys == group.variants[1].keys
        and batch.seed == 9
        and torch.equal(batch.latents, group.latents)
    )

    def plain(samples: list[PromptedRecord]) -> list[PromptedRecord]:
        return [replace(p, sanitized=p.record.prompt) for p in samples]

    same = replace(study, canaries=plain(study.canaries), controls=plain(study.controls), members=plain(study.members))
    assert all(len(g.variants) == 1 for g in build_judged(parts, same, 4, 0).groups.values())


def test_prompt_only_controls_have_no_image_and_count_as_the_patients_they_borrow_from(parts: PipelineParts, study: Study) -> None:
    assert "prompt_controls" not in build_judged(parts, study, 4, 0).groups
    with_prompts = replace(study, prompt_controls=study.heldout[:6])
    judged = build_judged(parts, with_prompts, 4, 0)
    group = judged.groups["prompt_controls"]
    assert len(group) == 6 and not group.has_images and judged.groups["controls"].has_images
    assert group.subjects == tuple(p.record.subject_id for p in study.heldout[:6])
    assert group.latents.shape == (6, *judged.groups["controls"].latents.shape[1:]) and not group.latents.any()
    assert set(group.own_index.tolist()) == {-1} and group.repeats == (0,) * 6
    assert len(judged.references.null["pixels"]) == len(study.controls) + len(study.heldout)  # an image is no null twice


def test_nothing_is_the_own_image_of_a_prompt_without_one(parts: PipelineParts, judged: Judged) -> None:
    group = replace(group_of("prompt_controls", 1, [-1, -1, -1], 200), pixels=torch.zeros(0, 1, 64, 64))
    latents = {(v, d): latents_of(judged, d) for v in (200, 201, 202) for d in range(2)}
    evaluator = evaluator_of(parts, replace(judged, groups=judged.groups | {"prompt_controls": group}), latents)
    replays = evaluator.generate(None, "prompt_controls", 2).replays  # type: ignore[arg-type]
    assert all(r.any.all() and not r.own.any() for r in replays.values())


def test_another_stream_gives_other_samples_and_the_same_one_the_same(parts: PipelineParts, study: Study) -> None:
    judged = build_judged(parts, study, 2, 0)
    null = {k: v[:].repeat(4, 1) for k, v in judged.references.null.items()}
    judged = replace(judged, references=replace(judged.references, null=null))
    evaluator = Evaluator(parts, judged, Sampler(parts.scheduler.config, 2, 3.0), 0)
    denoiser = UNetDenoiser(parts.unet.eval(), parts.alphas_cumprod, parts.prediction_type)
    first, again, other = (evaluator.generate(denoiser, "canaries", 2, stream=s).pixels for s in ("sample", "sample", "replication"))
    assert torch.equal(first, again)
    assert (first - other).abs().flatten(1).amax(dim=1).min() > 1e-3


class Tracked(TextNoiseNorm):
    """A detector whose author forgot ``no_grad``."""

    def __call__(self, denoiser: Any, batch: Any) -> Tensor:
        states = batch.encoder_hidden_states
        return denoiser.predict_noise(batch.noise(0), batch.at(5, denoiser), states).flatten(1).norm(dim=1)


def test_a_detector_that_tracks_gradients_is_judged(parts: PipelineParts, study: Study) -> None:
    judged = build_judged(parts, study, 2, 0)
    null = {k: v[:].repeat(4, 1) for k, v in judged.references.null.items()}
    evaluator = Evaluator(
        parts, replace(judged, references=replace(judged.references, null=null)), Sampler(parts.scheduler.config, 2, 3.0), 0
    )
    unet = parts.unet.requires_grad_(True)
    assert np.isfinite(evaluator.score(UNetDenoiser(unet, parts.alphas_cumprod, parts.prediction_type), Tracked(), "canaries")).all()


def test_a_smaller_round_keeps_thresholds_noise_and_the_wording_that_is_trained_on(parts: PipelineParts, study: Study) -> None:
    judged = build_judged(parts, study, 2, 0)
    null = {k: v[:].repeat(4, 1) for k, v in judged.references.null.items()}
    whole = Evaluator(parts, replace(judged, references=replace(judged.references, null=null)), Sampler(parts.scheduler.config, 2, 3.0), 0)
    fewer = whole.looking_at(canaries=[0, 2], controls=[1])
    assert list(fewer.judged.groups) == ["canaries", "controls"] and fewer.thresholds == whole.thresholds
    denoiser, probe = UNetDenoiser(parts.unet.eval(), parts.alphas_cumprod, parts.prediction_type), TextNoiseNorm(seeds=1)
    trained_on = whole._score_variant(denoiser, probe, "canaries", len(judged.groups["canaries"].variants) - 1)
    assert np.allclose(fewer.score(denoiser, probe, "canaries"), trained_on[[0, 2]], rtol=1e-4)
    group = fewer.judged.groups["canaries"]
    assert group.own_index.tolist() == judged.groups["canaries"].own_index[[0, 2]].tolist() and group.repeats == (1, 3)
    assert len(whole.judged.groups["canaries"]) == 3


def test_members_are_drawn_by_the_seed(parts: PipelineParts, study: Study) -> None:
    picks = [build_judged(parts, study, 6, seed).groups["members"].own_index.tolist() for seed in (0, 0, 1)]
    assert picks[0] == picks[1] != picks[2] and all(p == sorted(set(p)) and len(p) == 6 for p in picks)
    assert len(build_judged(parts, study, 10_000, 0).groups["members"]) == len(study.members)


def test_a_run_without_canaries_cannot_be_judged(parts: PipelineParts, study: Study) -> None:
    for group in ("canaries", "controls"):
        with pytest.raises(BadInputError, match=rf"no {group}.*canaries\.n"):
            build_judged(parts, replace(study, **{group: []}), 4, 0)


def test_same_weights_same_figures(parts: PipelineParts, study: Study) -> None:
    """With the real sampler and probe: nothing depends on the global generators or the batch size."""
    judged = build_judged(parts, study, 2, 0)
    null = {k: v[:].repeat(4, 1) for k, v in judged.references.null.items()}
    judged = replace(judged, references=replace(judged.references, null=null))
    denoiser = UNetDenoiser(parts.unet.eval(), parts.alphas_cumprod, parts.prediction_type)
    results = []
    for seed, batch_size in ((1, 64), (2, 3)):
        torch.manual_seed(seed)
        evaluator = Evaluator(parts, judged, Sampler(parts.scheduler.config, 2, 3.0, batch_size), 0, batch_size)
        scores = evaluator.score(denoiser, TextNoiseNorm(seeds=1), "controls")
        results.append((scores, evaluator.generate(denoiser, "canaries", 2).pixels))
    assert np.allclose(results[0][0], results[1][0], rtol=1e-4) and torch.allclose(results[0][1], results[1][1], atol=1e-3)
    assert torch.allclose(
        encode_images(parts, judged.groups["members"].pixels.expand(-1, 3, -1, -1)), judged.groups["members"].latents, atol=1e-4
    )


def test_a_diverged_model_is_an_error_and_not_a_model_that_replays_nothing() -> None:
    from cxrguard.audit.evaluate import _check_finite
    from cxrguard.errors import CxrguardError

    latents = torch.zeros(3, 4, 2, 2)
    _check_finite(latents)
    latents[1, 0, 0, 0] = float("nan")
    with pytest.raises(CxrguardError, match="1 of 3 generated samples are not finite"):
        _check_finite(latents)


def test_copies_of_training_images_among_the_held_out_do_not_blind_the_thresholds(parts: PipelineParts, judged: Judged) -> None:
    clean = evaluator_of(parts, judged)
    copied = {}
    for space in ("pixels", "latents"):
        copies = judged.references.training[space][:3].clone()
        if space == "latents":
            copies += 1e-6  # what rounding does to the latents of equal images
        copied[space] = torch.cat([judged.references.null[space], copies])
    blinded = evaluator_of(parts, replace(judged, references=replace(judged.references, null=copied)))
    assert (blinded.n_null, blinded.n_copies) == (clean.n_null, 3)
    assert blinded.thresholds == clean.thresholds
