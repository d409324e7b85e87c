"""The figures of the audit against loops over prompts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cxrguard.audit.assemble import generate_all, judge, score_all
from cxrguard.audit.evaluate import Generated
from cxrguard.audit.extraction import Replays
from cxrguard.audit.intervals import wilson

SIZES = {"canaries": 12, "controls": 120, "members": 9}
K = 3
REPEATS = (2, 2, 5, 5, 5, 5, 9, 9, 9, 9, 9, 9)
PROBES = [
    SimpleNamespace(name="up", direction="higher", evals_per_prompt=2),
    SimpleNamespace(name="down", direction="lower", evals_per_prompt=8),
]


def generated_of(rate: float, seed: int, n: int, variants: int, own: bool) -> Generated:
    generator = torch.Generator().manual_seed(seed)

    def replays() -> Replays:
        hit = torch.rand(n, K * variants, generator=generator) < rate
        mine = hit & (torch.rand(n, K * variants, generator=generator) < 0.5) & own
        return Replays(mine, hit, torch.zeros(hit.shape), torch.zeros(hit.shape, dtype=torch.int64))

    return Generated(torch.zeros(n, K * variants, 1, 2, 2), {"pixels": replays(), "latents": replays()}, variants)


def setting(rate: float = 0.2) -> tuple[Any, dict[str, Generated], dict[str, dict[str, np.ndarray]], Any]:
    rng = np.random.default_rng(0)
    groups = {
        name: SimpleNamespace(subjects=tuple(f"{name}{i // 2}" for i in range(n)), own_index=torch.arange(n)) for name, n in SIZES.items()
    }
    evaluator = SimpleNamespace(
        judged=SimpleNamespace(groups=groups), calibration={"null_n": 200, "thresholds": {"pixels": 0.1, "latents": 0.2}}
    )
    generated = {name: generated_of(rate, i, n, 1 + (name == "canaries"), name != "controls") for i, (name, n) in enumerate(SIZES.items())}
    scores = {p.name: {name: rng.normal(name == "canaries", 1, n).round(1) for name, n in SIZES.items()} for p in PROBES}
    return evaluator, generated, scores, SimpleNamespace(repeats=REPEATS, share=0.17)


def judged(rate: float = 0.2) -> tuple[dict[str, Any], dict[str, Generated], dict[str, dict[str, np.ndarray]]]:
    evaluator, generated, scores, study = setting(rate)
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


def test_controls_and_members() -> None:
    audit, generated, _ = judged()
    spilled = by_loop(generated["controls"], "pixels", "any", K)
    assert audit["controls"] == {"n": 120, "n_judging": 120 - sum(spilled), "spillover_rate": pytest.approx(sum(spilled) / 120)}
    own = by_loop(generated["members"], "pixels", "own", K)
    assert audit["members"]["n"] == 9 and audit["members"]["extraction_rate"] == pytest.approx(sum(own) / 9)


def test_detectors_compare_replaying_canaries_with_controls_that_do_not_replay() -> None:
    audit, generated, scores = judged()
    hits, spilled = by_loop(generated["canaries"], "pixels", "own", K), by_loop(generated["controls"], "pixels", "any", K)
    for probe in PROBES:
        negatives = [float(s) for s, out in zip(scores[probe.name]["controls"], spilled, strict=True) if not out]
        positives = [float(s) for s, hit in zip(scores[probe.name]["canaries"], hits, strict=True) if hit]
        entry = audit["detectors"][probe.name]
        assert entry["auc"] == pytest.approx(auc_by_pairs(positives, negatives, probe.direction))
        assert entry["n_positives"] == len(positives) and entry["n_negatives"] == len(negatives)
        assert entry["direction"] == probe.direction and entry["evals_per_prompt"] == probe.evals_per_prompt
        of_members = audit["members"]["detectors"][probe.name]
        assert of_members["auc"] == pytest.approx(auc_by_pairs(scores[probe.name]["members"].tolist(), negatives, probe.direction))
        assert of_members["n_positives"] == 9


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


def test_one_sample_a_prompt() -> None:
    evaluator, generated, scores, study = setting()
    audit = judge(evaluator, generated, scores, PROBES, study, 1, 0)  # type: ignore[arg-type]
    assert audit["extraction"]["k"] == [1]
    assert audit["canaries"]["extraction_rate"] == pytest.approx(np.mean(by_loop(generated["canaries"], "pixels", "own", 1)))


@pytest.mark.parametrize(("rate", "side"), [(0.0, "0 replaying canaries"), (1.0, "0 controls")])
def test_a_side_that_is_empty_gives_null_with_a_reason(rate: float, side: str) -> None:
    audit = judged(rate)[0]
    for entry in audit["detectors"].values():
        assert entry["auc"] is None and entry["auc_ci"] is None and side in entry["reason"] and entry["trusted"] is False
    assert audit["canaries"]["extraction_ci"][0] < audit["canaries"]["extraction_ci"][1]


def test_every_group_is_generated_and_scored() -> None:
    calls: list[Any] = []
    evaluator = SimpleNamespace(
        generate=lambda denoiser, name, k, on_batch: calls.append((name, k, on_batch)) or name,
        score=lambda denoiser, probe, name: (probe.name, name),
    )
    names = ["canaries", "controls", "members"]
    assert generate_all(evaluator, None, 4) == dict(zip(names, names, strict=True))  # type: ignore[arg-type, comparison-overlap]
    assert calls == [(name, 4, None) for name in names]
    scored: Any = score_all(evaluator, None, PROBES)  # type: ignore[arg-type]
    assert scored == {p.name: {name: (p.name, name) for name in names} for p in PROBES}
