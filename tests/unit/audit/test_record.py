"""The contract, the detector entry and the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrguard.audit.detectors import Scored, describe
from cxrguard.audit.gate import gate
from cxrguard.audit.record import DETECTOR_KEYS, REQUIRED, null_reason, validate_audit, verdict
from cxrguard.errors import CxrguardError
from cxrguard.files import write_json_private

Audit = dict[str, Any]


def test_the_fake_audit_is_valid(audit: Audit) -> None:
    validate_audit(audit)


@pytest.mark.parametrize(("section", "key"), [(s, k) for s, keys in REQUIRED.items() for k in keys])
def test_each_missing_key_is_named(audit: Audit, section: str, key: str) -> None:
    del (audit[section] if section else audit)[key]
    with pytest.raises(CxrguardError, match=rf"lacks .*{section}.?{key}"):
        validate_audit(audit)


def test_a_detectors_missing_key_is_named(audit: Audit) -> None:
    del audit["detectors"]["denoising_loss"]["direction"]
    with pytest.raises(CxrguardError, match=r"detectors\.denoising_loss\.direction"):
        validate_audit(audit)


def test_a_null_needs_a_reason(audit: Audit) -> None:
    audit["controls"]["spillover_rate"] = None
    with pytest.raises(CxrguardError, match=r"controls\.spillover_rate"):
        validate_audit(audit)
    audit["null_reasons"]["controls.spillover_rate"] = "no controls"
    validate_audit(audit)
    assert null_reason(audit, "controls.spillover_rate") == "no controls"
    assert null_reason(audit, "extraction.groups.controls.pixels.1.own") == "Controls have no image of their own in the training set."
    assert null_reason(audit, "extraction.groups.members.pixels.1.own") is None


def test_detector_entry() -> None:
    rng = np.random.default_rng(0)
    entry = describe(Scored.of(rng.normal(-3, 1, 20)), Scored.of(rng.normal(0, 1, 100)), "lower", 4, n_bootstrap=50)
    assert set(DETECTOR_KEYS) <= set(entry)
    assert entry["trusted"] is True
    assert entry["reason"] == "TPR at 0.1 % FPR needs 1,000 controls that do not replay; there are 100"
    assert entry["auc"] > 0.9
    wrong = describe(Scored.of(rng.normal(-3, 1, 20)), Scored.of(rng.normal(0, 1, 50)), "higher", 4, n_bootstrap=50)
    assert wrong["trusted"] is False
    assert wrong["tpr_at_1pct_fpr"] is wrong["threshold"] is None
    assert "wrong way" in wrong["reason"]
    assert "there are 50" in wrong["reason"]


def test_detector_entry_without_positives_and_with_nan() -> None:
    entry = describe(Scored.of([np.nan]), Scored.of([1.0, 2.0]), "higher", 4)
    assert entry["auc"] is entry["auc_ci"] is None
    assert entry["trusted"] is False
    assert "0 positives" in entry["reason"]
    assert "1 scores were not finite" in entry["reason"]


def test_replay_is_refused_with_figures(audit: Audit) -> None:
    judged = verdict(audit)
    assert judged["pass"] is False
    assert "24 of 32 canaries" in judged["reasons"][0]
    assert any("67 of 160 controls" in reason for reason in judged["reasons"])


def test_a_clean_model_passes_and_states_the_upper_bound(clean_audit: Audit) -> None:
    judged = verdict(clean_audit)
    assert judged["pass"] is True
    assert "up to 10.7 %" in judged["reasons"][0]


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("canaries", "extraction_rate", 1 / 32, "1 of 32 canaries"),
        ("canaries", "extraction_rate", None, "not measured"),
        ("canaries", "n", 0, "not measured"),
        ("members", "extraction_rate", 0.05, "10 of 200 members"),
        ("members", "extraction_rate", None, "not measured"),
        ("controls", "spillover_rate", None, "not measured"),
        ("sanitizer", "residual_markers", 1, "1 de-identification marker"),
        ("sanitizer", "residual_markers", None, "not counted"),
    ],
)
def test_one_finding_refuses(clean_audit: Audit, section: str, key: str, value: float | None, said: str) -> None:
    clean_audit[section][key] = value
    if key == "n":
        clean_audit["extraction"]["groups"]["canaries"]["n"] = 0
    judged = verdict(clean_audit)
    assert judged["pass"] is False
    assert len(judged["reasons"]) == 1
    assert said in judged["reasons"][0]


def test_the_extraction_table_is_judged_too(clean_audit: Audit) -> None:
    clean_audit["extraction"]["groups"]["controls"]["pixels"]["1"]["any"] = 0.1
    assert "16 of 160 controls" in verdict(clean_audit)["reasons"][0]
    assert verdict(clean_audit, max_replay_rate=0.2)["pass"] is True


def test_chance_replays_within_the_thresholds_rate_pass(clean_audit: Audit) -> None:
    clean_audit["extraction"]["groups"]["controls"]["pixels"]["1"]["any"] = 2 / 160
    assert verdict(clean_audit)["pass"] is True


def test_the_gate_judges_anew(clean_audit: Audit, audit: Audit, tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    clean_audit["verdict"] = verdict(clean_audit)
    assert gate(write_json_private(path, clean_audit))[0] is True
    assert gate(write_json_private(path, clean_audit | {"verdict": {"pass": False, "reasons": ["by hand"]}})) == (False, ["by hand"])
    passed, reasons = gate(write_json_private(path, audit | {"verdict": {"pass": True, "reasons": []}}))
    assert passed is False
    assert "do not bear it out" in reasons[-1]
    clean_audit["canaries"]["extraction_rate"] = "high"
    with pytest.raises(CxrguardError, match="unexpected form"):
        gate(write_json_private(path, clean_audit))
