"""The figures of the audit against loops over prompts."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cxrguard.audit import finish
from cxrguard.audit.assemble import GROUPS, generate_all, judge, sampling_plan, score_all
from cxrguard.audit.evaluate import Generated
from cxrguard.audit.extraction import Replays
from cxrguard.audit.intervals import wilson
from cxrguard.audit.record import _nulls, null_reason

SIZES = {"canaries": 12, "controls": 120, "members": 9}
WITH_PROMPTS = SIZES | {"prompt_controls": 200}
K, K_PROMPTS = 3, 2
REPEATS = (2, 2, 5, 5, 5, 5, 9, 9, 9, 9, 9, 9)
PROBES = [
    SimpleNamespace(name="up", direction="higher", evals_per_prompt=2),
    SimpleNamespace(name="down", direction="lower", evals_per_prompt=8, needs_images=True),
]


def generated_of(rate: float, seed: int, n: int, variants: int, own: bool, k: int = K) -> Generated:
    generator = torch.Generator().manual_seed(seed)

    def replays() -> Replays:
        hit = torch.rand(n, k * variants, generator=generator) < rate
        mine = hit & (torch.rand(n, k * variants, generator=generator) < 0.5) & own
        return Replays(mine, hit, torch.zeros(hit.shape), torch.zeros(hit.shape, dtype=torch.int64))

    return Generated(torch.zeros(n, k * variants, 1, 2, 2), {"pixels": replays(), "latents": replays()}, variants)


def setting(rate: float = 0.2, sizes: dict[str, int] = SIZES) -> tuple[Any, dict[str, Generated], dict[str, dict[str, np.ndarray]], Any]:
    rng = np.random.default_rng(0)
    groups = {
        name: SimpleNamespace(subjects=tuple(f"{name}{i // 2}" for i in range(n)), own_index=torch.arange(n)) for name, n in sizes.items()
    }
    evaluator = SimpleNamespace(
        judged=SimpleNamespace(groups=groups), calibration={"null_n": 200, "thresholds": {"pixels": 0.1, "latents": 0.2}}
    )
    trained = ("canaries", "members")
    generated = {
        name: generated_of(rate, i, n, 1 + (name == "canaries"), name in trained, K_PROMPTS if name == "prompt_controls" else K)
        for i, (name, n) in enumerate(sizes.items())
    }
    scores = {
        p.name: {
            name: rng.normal(name == "canaries", 1, n).round(1)
            for name, n in sizes.items()
            if name != "prompt_controls" or not getattr(p, "needs_images", False)
        }
        for p in PROBES
    }
    return evaluator, generated, scores, SimpleNamespace(repeats=REPEATS, share=0.17, arms={})


def judged(
    rate: float = 0.2, sizes: dict[str, int] = SIZES
) -> tuple[dict[str, Any], dict[str, Generated], dict[str, dict[str, np.ndarray]]]:
    evaluator, generated, scores, study = setting(rate, sizes)
    return judge(evaluator, generated, scores, PROBES, study, K, 0), generated, scores  # type: ignore[arg-type]


def by_loop(generated: Generated, space: str, outcome: str, k: int) -> list[bool]:
    return [any(row[: k * generated.per_draw]) for row in getattr(generated.replays[space], outcome).tolist()]


def auc_by_pairs(positives: list[float], negatives: list[float], direction: str) -> float:
    sign = 1 if direction == "higher" else -1
    return sum((sign * (a - b) > 0) + 0.5 * (a == b) for a in positives for b in negatives) / (len(positives) * len(negatives))


def test_canaries_and_by_repeats() -> None:
    audit, generated, _ = judged()
    hits = by_loop(generated["canaries"], "pixels", "own", K)
    canaries = audit["canaries"]
    assert (
        canaries["n"] == 12 and canaries["repeats"] == list(REPEATS) and canaries["share"] == 0.17 and canaries["samples_per_prompt"] == K
    )
    assert 0 < sum(hits) < 12 and canaries["extraction_rate"] == pytest.approx(sum(hits) / 12)
    assert canaries["extraction_ci"] == pytest.approx(list(wilson(sum(hits), 12) or ()))
    for row in canaries["by_repeats"]:
        chosen = [h for h, r in zip(hits, REPEATS, strict=True) if r == row["repeats"]]
        assert row["n"] == len(chosen) and row["extraction_rate"] == pytest.approx(sum(chosen) / len(chosen))
    assert [row["repeats"] for row in canaries["by_repeats"]] == [2, 5, 9]


def test_canaries_by_arm_in_a_study_of_the_marker_only() -> None:
    evaluator, generated, scores, study = setting()
    assert "by_arm" not in judge(evaluator, generated, scores, PROBES, study, K, 0)["canaries"]  # type: ignore[arg-type]
    study.arms = {"canaries": ("marker", "word", "none") * 4}
    audit = judge(evaluator, generated, scores, PROBES, study, K, 0)  # type: ignore[arg-type]
    check_nulls(audit)
    hits = by_loop(generated["canaries"], "pixels", "own", K)
    for i, (row, arm) in enumerate(zip(audit["canaries"]["by_arm"], ("marker", "word", "none"), strict=True)):
        k = sum(hits[i::3])
        assert row == {
            "arm": arm,
            "n": 4,
            "extraction_rate": pytest.approx(k / 4),
            "extraction_ci": pytest.approx(list(wilson(k, 4) or ())),
        }


def test_controls_and_members() -> None:
    audit, generated, _ = judged()
    spilled = by_loop(generated["controls"], "pixels", "any", K)
    controls = audit["controls"]
    assert controls.pop("prompt_only") == {"n": 0, "n_judging": 0, "samples_per_prompt": 0, "spillover_rate": None, "spillover_ci": None}
    assert controls == {"n": 120, "n_judging": 120 - sum(spilled), "spillover_rate": pytest.approx(sum(spilled) / 120)}
    own = by_loop(generated["members"], "pixels", "own", K)
    assert audit["members"]["n"] == 9 and audit["members"]["extraction_rate"] == pytest.approx(sum(own) / 9)
    patients = [any(own[2 * i : 2 * i + 2]) for i in range(5)]
    assert audit["members"]["patients"]["n"] == 5
    assert audit["members"]["patients"]["extraction_rate"] == pytest.approx(sum(patients) / 5)
    assert audit["members"]["patients"]["extraction_ci"] == pytest.approx(list(wilson(sum(patients), 5) or ()))


def test_prompt_only_controls_have_figures_of_their_own_and_judge_too() -> None:
    audit, generated, _ = judged(sizes=WITH_PROMPTS)
    spilled = {name: by_loop(generated[name], "pixels", "any", 99) for name in ("controls", "prompt_controls")}
    alone = sum(spilled["prompt_controls"])
    assert audit["controls"]["n"] == 120 and audit["controls"]["spillover_rate"] == pytest.approx(sum(spilled["controls"]) / 120)
    assert audit["controls"]["n_judging"] == 320 - sum(spilled["controls"]) - alone
    assert audit["controls"]["prompt_only"] == {
        "n": 200,
        "n_judging": 200 - alone,
        "samples_per_prompt": K_PROMPTS,
        "spillover_rate": pytest.approx(alone / 200),
        "spillover_ci": pytest.approx(list(wilson(alone, 200) or ())),
    }
    assert audit["detectors"]["up"]["n_negatives"] == audit["controls"]["n_judging"]
    assert audit["detectors"]["down"]["n_negatives"] == 120 - sum(spilled["controls"])
    assert list(audit["extraction"]["groups"]) == list(GROUPS)


def sides(generated: dict[str, Generated], by_group: dict[str, np.ndarray]) -> tuple[list[float], list[float], list[float]]:
    """Scores of replaying canaries, of quiet controls and of all controls."""
    hits = by_loop(generated["canaries"], "pixels", "own", K)
    positives = [float(s) for s, hit in zip(by_group["canaries"], hits, strict=True) if hit]
    quiet, every = [], []
    for name in ("controls", "prompt_controls"):
        for score, out in zip(
            by_group.get(name, []), by_loop(generated[name], "pixels", "any", K) if name in by_group else [], strict=True
        ):
            every.append(float(score))
            if not out:
                quiet.append(float(score))
    return positives, quiet, every


@pytest.mark.parametrize("sizes", [SIZES, WITH_PROMPTS])
def test_detectors_compare_replaying_canaries_with_controls_that_do_not_replay(sizes: dict[str, int]) -> None:
    audit, generated, scores = judged(sizes=sizes)
    for probe in PROBES:
        positives, quiet, _ = sides(generated, scores[probe.name])
        entry = audit["detectors"][probe.name]
        assert entry["auc"] == pytest.approx(auc_by_pairs(positives, quiet, probe.direction))
        assert entry["n_positives"] == len(positives) and entry["n_negatives"] == len(quiet)
        assert entry["direction"] == probe.direction and entry["evals_per_prompt"] == probe.evals_per_prompt
        of_members = audit["members"]["detectors"][probe.name]
        members = scores[probe.name]["members"].tolist()
        means = [float(np.mean(members[2 * i : 2 * i + 2])) for i in range(5)]  # two images a patient, the last has one
        assert of_members["auc"] == pytest.approx(auc_by_pairs(means, quiet, probe.direction))
        assert of_members["n_positives"] == 5


def test_detectors_by_repeats() -> None:
    audit, generated, scores = judged(sizes=WITH_PROMPTS)
    hits = by_loop(generated["canaries"], "pixels", "own", K)
    for probe in PROBES:
        _, quiet, every = sides(generated, scores[probe.name])
        sign = 1 if probe.direction == "higher" else -1
        rows = audit["detectors"][probe.name]["by_repeats"]
        assert [row["repeats"] for row in rows] == [2, 5, 9]
        for row in rows:
            at = [i for i, times in enumerate(REPEATS) if times == row["repeats"]]
            positives = [float(scores[probe.name]["canaries"][i]) for i in at if hits[i]]
            assert row["n"] == len(at) and row["n_positives"] == len(positives)
            assert row["auc"] == (pytest.approx(auc_by_pairs(positives, quiet, probe.direction)) if positives else None)
            bits = []
            for i in at:
                score = float(scores[probe.name]["canaries"][i])
                rank = 1 + sum(sign * (x - score) > 0 for x in every) + 0.5 * sum(x == score for x in every)
                bits.append(np.log2(len(every) + 1) - np.log2(rank))
            assert row["exposure"] == pytest.approx(np.mean(bits))
            if len({i // 2 for i in at}) < 2:  # one patient
                assert row["exposure_ci"] is None and row["reason"]
            else:
                assert row["exposure_ci"][0] <= row["exposure"] <= row["exposure_ci"][1]
            assert row["trusted"] == (row["auc_ci"] is not None and row["auc_ci"][0] >= 0.8) and (row["trusted"] or row["reason"])
        trusted = [row["repeats"] for row in rows if row["trusted"]]
        assert audit["detectors"][probe.name]["lowest_repeats"] == (min(trusted) if trusted else None)


@pytest.mark.parametrize("sizes", [SIZES, WITH_PROMPTS])
def test_the_outcome_is_judged_over_all_prompts_in_equally_many_samples(sizes: dict[str, int]) -> None:
    audit, generated, scores = judged(sizes=sizes)
    fewest = K_PROMPTS if "prompt_controls" in sizes else K
    for probe in PROBES:
        positives, negatives = [], []
        for name, values in scores[probe.name].items():
            for score, hit in zip(values.tolist(), by_loop(generated[name], "pixels", "any", fewest), strict=True):
                (positives if hit else negatives).append(score)
        entry = audit["detectors"][probe.name]["outcome"]
        assert entry["auc"] == pytest.approx(auc_by_pairs(positives, negatives, probe.direction))
        assert (entry["n_positives"], entry["n_negatives"], entry["samples_per_prompt"]) == (len(positives), len(negatives), fewest)
        assert entry["auc_ci"][0] < entry["auc"] < entry["auc_ci"][1] and entry["reason"] is None


def test_rates_by_space_and_number_of_samples() -> None:
    audit, generated, _ = judged()
    extraction = audit["extraction"]
    assert extraction["k"] == [1, K] and extraction["null_n"] == 200 and extraction["thresholds"] == {"pixels": 0.1, "latents": 0.2}
    for name, n in SIZES.items():
        assert extraction["groups"][name]["n"] == n
        for space in ("pixels", "latents"):
            for k in (1, K):
                row = extraction["groups"][name][space][str(k)]
                for outcome in ("own", "any"):
                    hits = by_loop(generated[name], space, outcome, k)
                    assert row[outcome] == pytest.approx(sum(hits) / n)
                    assert row[f"{outcome}_ci"] == pytest.approx(list(wilson(sum(hits), n) or ()))


def test_all_samples_of_a_group_count() -> None:
    """Extraction is judged in as many samples as there are; ``k`` names the columns of the table."""
    evaluator, generated, scores, study = setting()
    audit = judge(evaluator, generated, scores, PROBES, study, 1, 0)  # type: ignore[arg-type]
    assert audit["extraction"]["k"] == [1]
    assert audit["canaries"]["extraction_rate"] == pytest.approx(np.mean(by_loop(generated["canaries"], "pixels", "own", K)))


def check_nulls(audit: dict[str, Any]) -> None:
    """Every null of these sections must have a reason, as ``finish_run`` writes them."""
    losses = {"heldout_loss": 0.1, "heldout_loss_base": 0.1}
    facts: Any = SimpleNamespace(actions=[], curves=[], n_residual=0, privacy=None, config={"seed": 0}, **losses)
    study: Any = SimpleNamespace(sanitizer_counts={})
    given = finish._rest(facts, study, [])
    full = audit | {"null_reasons": given["null_reasons"]}
    bare = [".".join(path) for path in _nulls(audit) if null_reason(full, path) is None]
    assert not bare


@pytest.mark.parametrize("sizes", [SIZES, WITH_PROMPTS])
@pytest.mark.parametrize("repeats", [REPEATS, (4,) * 12, tuple(range(1, 13))])
@pytest.mark.parametrize("rate", [0.0, 0.02, 0.2, 1.0])
def test_every_null_has_a_reason(rate: float, repeats: tuple[int, ...], sizes: dict[str, int]) -> None:
    """No replay at all, everything spilled, one level, a level a canary, with and without prompt-only controls."""
    evaluator, generated, scores, study = setting(rate, sizes)
    study.repeats = repeats
    for by_group in scores.values():
        by_group["canaries"][3] = np.nan
        by_group["controls"][5] = np.inf
    audit = judge(evaluator, generated, scores, PROBES, study, K, 0)  # type: ignore[arg-type]
    check_nulls(audit)
    assert json.loads(json.dumps(audit)) == audit  # plain types


def test_scores_that_are_not_finite_are_counted_on_both_sides() -> None:
    evaluator, generated, scores, study = setting(0.0)
    generated["canaries"] = generated_of(1.0, 0, 12, 2, True)
    mine = by_loop(generated["canaries"], "pixels", "own", K).index(True)
    scores["up"]["canaries"][mine] = np.nan
    scores["up"]["controls"][[1, 2]] = np.nan
    scores["up"]["members"][0] = np.nan
    audit = judge(evaluator, generated, scores, PROBES, study, K, 0)  # type: ignore[arg-type]
    assert "3 scores were not finite" in audit["detectors"]["up"]["reason"]
    assert audit["detectors"]["up"]["n_negatives"] == 118
    of_members = audit["members"]["detectors"]["up"]
    assert "3 scores were not finite" in of_members["reason"] and of_members["n_positives"] == 5  # the patient has another image


@pytest.mark.parametrize(("rate", "side"), [(0.0, "0 positives"), (1.0, "0 controls")])
def test_a_side_that_is_empty_gives_null_with_a_reason(rate: float, side: str) -> None:
    audit = judged(rate)[0]
    for entry in audit["detectors"].values():
        assert entry["auc"] is None and entry["auc_ci"] is None and side in entry["reason"] and entry["trusted"] is False
        assert entry["lowest_repeats"] is None and entry["outcome"]["auc"] is None and "prompts replay" in entry["outcome"]["reason"]
        assert all(row["exposure"] is not None for row in entry["by_repeats"])  # all controls are its reference, quiet or not
    assert audit["canaries"]["extraction_ci"][0] < audit["canaries"]["extraction_ci"][1]


def test_every_group_is_generated_and_scored() -> None:
    calls: list[Any] = []
    groups = {name: SimpleNamespace(has_images=name != "prompt_controls") for name in WITH_PROMPTS}
    evaluator: Any = SimpleNamespace(
        generate=lambda denoiser, name, k, on_batch: calls.append((name, k, on_batch)) or name,
        score=lambda denoiser, probe, name: (probe.name, name),
        judged=SimpleNamespace(groups=groups),
    )
    plan = sampling_plan(evaluator, 4, 2)
    assert plan == {"canaries": 4, "controls": 4, "members": 4, "prompt_controls": 2}
    assert sampling_plan(evaluator, 4, 0) == dict.fromkeys(GROUPS, 4)
    assert generate_all(evaluator, None, plan) == dict(zip(plan, plan, strict=True))  # type: ignore[arg-type, comparison-overlap]
    assert calls == [(name, k, None) for name, k in plan.items()]
    scored: Any = score_all(evaluator, None, PROBES, list(plan))  # type: ignore[arg-type]
    assert scored["up"] == {name: ("up", name) for name in plan}
    assert scored["down"] == {name: ("down", name) for name in GROUPS}  # it looks at images, and a prompt alone has none
    del groups["prompt_controls"]
    assert sampling_plan(evaluator, 4, 2) == dict.fromkeys(GROUPS, 4)
