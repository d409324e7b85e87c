"""What the verdict must refuse: blindness, a single member's image, the worse space; and what it allows for chance."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cxrguard.audit.detectors import Scored, describe
from cxrguard.audit.extraction import chance_rate, replay_threshold
from cxrguard.audit.gate import gate
from cxrguard.audit.record import verdict
from tests.unit.audit.fake_audit import fake_audit


@pytest.fixture
def passing() -> dict[str, Any]:
    audit = copy.deepcopy(fake_audit())
    audit["canaries"] |= {"n": 40, "extraction_rate": 0.0, "extraction_ci": [0.0, 0.09]}
    audit["members"]["extraction_rate"] = 0.0
    audit["controls"]["spillover_rate"] = 0.0
    audit["sanitizer"]["residual_markers"] = 0
    for group in audit["extraction"]["groups"].values():
        for space in ("pixels", "latents"):
            for entry in group[space].values():
                entry |= {"any": 0.0, "own": None if entry["own"] is None else 0.0}
    audit["verdict"] = verdict(audit)
    assert audit["verdict"]["pass"], audit["verdict"]
    return audit


def test_a_single_members_image_refuses(passing: dict[str, Any]) -> None:
    passing["members"] |= {"n": 48, "extraction_rate": 1 / 48}
    assert not verdict(passing)["pass"]


def test_canaries_found_in_latents_alone_refuse(passing: dict[str, Any]) -> None:
    passing["extraction"]["groups"]["canaries"]["latents"]["16"]["own"] = 0.5
    assert not verdict(passing)["pass"]


def test_an_audit_that_could_not_see_a_replay_refuses(passing: dict[str, Any]) -> None:
    passing["extraction"]["detectable"] = 0.4
    judged = verdict(passing)
    assert not judged["pass"] and "40%" in " ".join(judged["reasons"])


def test_a_milder_limit_written_by_hand_opens_nothing(passing: dict[str, Any], tmp_path: Path) -> None:
    passing["canaries"] |= {"extraction_rate": 0.5, "extraction_ci": [0.35, 0.65]}
    passing["verdict"] |= {"pass": True, "limits": {"max_extraction_rate": 1.0, "max_replay_rate": 1.0, "max_extraction_upper": 1.0}}
    (tmp_path / "audit.json").write_text(json.dumps(passing))
    assert not gate(tmp_path / "audit.json")[0]


def test_few_positives_are_not_trusted_whatever_their_auc() -> None:
    few = describe(Scored.of([9999.0] * 4), Scored.of(range(2000)), "higher", 1)
    enough = describe(Scored.of([9999.0] * 5), Scored.of(range(2000)), "higher", 1)
    against_few = describe(Scored.of([9.0] * 8), Scored.of(range(8)), "higher", 1)
    assert few["auc"] == 1.0 and not few["trusted"] and "too few" in few["reason"]
    assert few["auc_ci"][0] < 0.8 <= enough["auc_ci"][0]  # the number alone refuses nothing that the interval would allow
    assert enough["trusted"]
    assert against_few["auc"] == 1.0 and not against_few["trusted"] and "below 0.8" in against_few["reason"]


@pytest.mark.parametrize("n", [100, 107, 250, 1000])
def test_chance_rate_is_what_honest_images_show(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    shares = []
    for _ in range(400):
        threshold = replay_threshold(torch.rand(n, generator=generator))
        assert threshold is not None
        shares.append(float((torch.rand(500, generator=generator) < threshold).double().mean()))
    assert sum(shares) / len(shares) == pytest.approx(chance_rate(n), rel=0.15)
