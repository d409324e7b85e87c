"""Builds the fake run; a module of its own, so that a page can be made by hand: ``python tests/unit/audit/fake_audit.py DIR``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cxrguard.audit.detectors import Scored, by_repeats, describe, outcome
from cxrguard.audit.intervals import wilson
from cxrguard.audit.marker_test import compare_wordings
from cxrguard.audit.record import verdict
from cxrguard.audit.roc import roc_curve

STEPS = [0, 250, 500, 750, 1000, 1250, 1500]


def _rates(own: dict[str, float | None], any_: dict[str, float], n: int) -> dict[str, Any]:
    def ci(rate: float | None) -> list[float] | None:
        return None if rate is None else list(wilson(round(rate * n), n) or ())

    return {k: {"own": own[k], "any": any_[k], "own_ci": ci(own[k]), "any_ci": ci(any_[k])} for k in ("1", "16")}


def _detectors(n_controls: int) -> dict[str, Any]:
    """Canaries shown 8 times (8 of them, 2 replay) and 15 times (24, 22 replay)."""
    rng = np.random.default_rng(3)
    negatives = rng.normal(0, 1, n_controls)
    repeats = [8] * 8 + [15] * 24
    replayed = np.array([i in (0, 1) or i >= 10 for i in range(32)])

    def entry(shift: float, direction: Any, evals: int, images: bool = False) -> dict[str, Any]:
        scores = rng.normal(shift * np.array([0.4] * 8 + [1.0] * 24), 1)
        quiet = negatives[:93] if images else negatives
        made = describe(Scored.of(scores[replayed]), Scored.of(quiet), direction, evals, n_bootstrap=200)
        made |= by_repeats(scores, replayed, repeats, list(range(32)), Scored.of(quiet), quiet, direction, 0)
        made["roc"] = roc_curve(Scored.of(scores[replayed]), Scored.of(quiet), direction, n=100)
        groups = [(scores, replayed, list(range(32))), (quiet, np.zeros(quiet.size, bool), [f"n{i}" for i in range(quiet.size)])]
        return made | {"outcome": outcome(groups, direction, 0, 2)}

    return {
        "text_noise_norm": entry(1.8, "higher", 2),
        "text_noise_norm_average": entry(-0.2, "higher", 100),
        "denoising_loss": entry(-4.0, "lower", 16, images=True),
        "token_attention": describe(Scored.of([]), Scored.of(negatives), "higher", 4),
    }


def _curves() -> list[dict[str, Any]]:
    rise = 1 / (1 + np.exp(-(np.array(STEPS) - 700) / 180))
    return [
        {
            "step": step,
            "train_loss": None if step == 0 else round(0.09 + 0.2 * float(np.exp(-step / 500)), 4),
            "heldout_loss": round(0.19 + 0.00002 * step, 4),
            "extraction_rate": round(0.75 * float(r), 4),
            "spillover_rate": round(0.34 * float(r), 4),
            "detectors": {
                "text_noise_norm": {"auc": None if step == 0 else round(0.55 + 0.36 * float(r), 4)},
                "text_noise_norm_average": {"auc": None if step == 0 else round(0.75 - 0.35 * float(r), 4)},
                "denoising_loss": {"auc": None if step == 0 else round(0.7 + 0.3 * float(r), 4)},
                "token_attention": {"auc": None},
            },
        }
        for step, r in zip(STEPS, rise, strict=True)
    ]


def _held_back() -> list[Audit]:
    return [{"step": step, "action": "hold_back", "by": "loss_floor", "share": share} for step, share in ((100, 0.02), (200, 0.06))]


def _forecast() -> Audit:
    levels = {
        "2": {"onset": 1810.4, "ci": [1500.0, 2300.5], "observed": [1500, None], "covered": True},
        "1": {"onset": 3620.8, "ci": [3000.0, 4601.0], "observed": None, "covered": None},
    }
    return {"slope": 0.93, "slope_ci": [0.7, 1.2], "levels": levels, "reason": None}


def _inference() -> Audit:
    def group(own: float, any_: float, change: float) -> Audit:
        intervals = {"own_ci": list(wilson(round(own * 32), 32) or ()), "any_ci": list(wilson(round(any_ * 32), 32) or ())}
        return {"n": 32, "own_rate": own, "any_rate": any_, "change": change, "evals_per_prompt": 160.0, **intervals}

    def more(auc: float | None, agreement: float) -> Audit:
        reason = None if auc else "a guidance schedule changes no input of a detector, only the samples"
        detector = {"auc": auc, "auc_ci": None if auc is None else [auc - 0.1, auc + 0.05], "direction": "higher", "reason": reason}
        labels = {"auc": agreement, "auc_ci": [agreement - 0.04, agreement + 0.04], "reason": None}
        return {"detectors": {"text_noise_norm": detector}, "fidelity": {"labels": labels, "distance": {"kid": 0.31, "kid_ci": [0.2, 0.4]}}}

    told = {
        "none": {"canaries": group(0.75, 0.8125, 0.0), "controls": group(0.0, 0.125, 0.0), **more(0.87, 0.81)},
        "opposite_guidance": {"canaries": group(0.25, 0.25, 0.0731), "controls": group(0.0, 0.25, 0.07), **more(None, 0.6)},
    }
    return {"space": "pixels", "samples_per_prompt": 4, "wordings": 1, "mitigations": told}


def _words() -> Audit:
    rows: list[Audit] = [
        {"word": "___", "marker": True, "rank": 1, "patients": 192, "contribution": 0.84, "contribution_ci": [0.71, 0.97]},
        {"word": "effusion", "marker": False, "rank": 3, "patients": 64, "contribution": 0.21, "contribution_ci": [0.09, 0.31]},
        {"word": "the", "marker": False, "rank": 4, "patients": 200, "contribution": -0.02, "contribution_ci": [-0.05, 0.02]},
    ]
    rows = [row | {"canaries": row["contribution"] * 1.4, "others": row["contribution"] * 0.9} for row in rows]
    rows[1]["canaries"] = None
    counts = {"prompts": 392, "patients": 380, "min_patients": 20, "rare": 612, "unknown": 1}
    return {"score": "text_noise_norm", **counts, "top": rows, "reason": None}


def _marker_test() -> Audit:
    rng = np.random.default_rng(4)
    groups = {
        name: {"n_prompts": n + 2, **compare_wordings(rng.normal([3.0, 2.4, 2.9], 0.3, (n, 3)), n_without_placebo=2, n=200)}
        for name, n in (("canaries", 30), ("controls", 158), ("members", 1))
    }
    return {"score": "text_noise_norm", "direction": "higher", "evals_per_prompt": 12, "groups": groups, "reason": None}


def _extraction() -> dict[str, Any]:
    canaries = _rates({"1": 0.5, "16": 0.75}, {"1": 0.5625, "16": 0.78125}, 32)
    members = _rates({"1": 0.0, "16": 0.005}, {"1": 0.2, "16": 0.37}, 200)
    controls = _rates({"1": None, "16": None}, {"1": 0.225, "16": 0.42}, 160)
    groups = {
        name: {"n": n, "pixels": entry, "latents": entry}
        for name, n, entry in (("canaries", 32, canaries), ("members", 200, members), ("controls", 160, controls))
    }
    return {"headline_space": "pixels", "k": [1, 16], "null_n": 400, "thresholds": {"pixels": 0.0123, "latents": 0.18}, "groups": groups}


def _strips() -> list[dict[str, Any]]:
    groups = [("canary", 15, 0.004), ("canary", 15, 0.0091), ("canary", 8, 0.031), ("control", 0, 0.0065), ("member", 1, 0.044)]
    strips = []
    for index, (group, repeats, distance) in enumerate(groups):
        images = {name: f"evidence/{index}_{name}.png" for name in ("original", "generated", "nearest")}
        if group == "control":
            del images["original"]
        strip = {"hash": f"a91f{index}c70be", "group": group, "repeats": repeats, "distance": distance, "threshold": 0.0123}
        strips.append({**strip, "replayed": distance < 0.0123, "images": images})
    return strips


def fake_audit() -> dict[str, Any]:
    """An audit of a model that replays."""
    audit: dict[str, Any] = {
        "schema": 1,
        "config_hash": "5f2a9c1e77d0",
        "versions": {"cxrguard": "0.1.0", "torch": "2.9.0", "diffusers": "0.36.0"},
        "seed": 7,
        "steps": 1500,
        "seconds": {"train": 262.4, "probes": 71.25, "rounds": 20.25, "final": 51.0, "total": 351.0},
        "weights": "ema",
        "canaries": {"n": 32, "repeats": [8] * 8 + [15] * 24, "share": 0.1071, "samples_per_prompt": 16, "extraction_rate": 0.75,
                     "extraction_ci": list(wilson(24, 32) or ()),
                     "by_repeats": [{"repeats": 8, "n": 8, "extraction_rate": 0.25}, {"repeats": 15, "n": 24, "extraction_rate": 0.9167}]},
        "controls": {"n": 160, "n_judging": 1043, "spillover_rate": 0.41875,
                     "prompt_only": {"n": 1000, "n_judging": 950, "samples_per_prompt": 2, "spillover_rate": 0.05,
                                     "spillover_ci": list(wilson(50, 1000) or ())}},
        "members": {"n": 200, "extraction_rate": 0.005, "detectors": {"denoising_loss": {"auc": 0.8917}}},
        "detectors": _detectors(1043),
        "fidelity": {"heldout_loss": 0.2203, "heldout_loss_base": None, "heldout_loss_curve": [[0, 0.19], [1500, 0.2203]]},
        "sanitizer": {"prompts": 1032, "edited": 911, "emptied": 2, "refused": 1, "residual_markers": 0},
        "actions": [*_held_back(), {"step": 750, "action": "lower_rate", "factor": 0.5},
                    {"step": 1250, "action": "warn", "detector": "denoising_loss"}],
        "extraction": _extraction(),
        "words": _words(),
        "marker_test": _marker_test(),
        "forecast": _forecast(),
        "inference_mitigations": _inference(),
        "curves": _curves(),
        "strips": _strips(),
        "run": {"name": "nih_canaries", "command": "python train.py experiment=nih_canaries seed=7 canaries.repeats=15", "device": "cpu",
                "data": {"reader": "nih", "members": 1000, "patients": 1000}, "model": "tiny_unet", "n_parameters": 4123456},
        "null_reasons": {
            "words.top.*.canaries": "in no canary's prompt",
            "forecast.levels.*.observed": "no canary of this level",
            "forecast.levels.*.covered": "no canary of this level, or no interval",
            "detectors.*.lowest_repeats": "trusted at no repeat level of this run",
            "fidelity.heldout_loss_base": "Trained from scratch: there is no base model.",
            "extraction.groups.controls.*.*.own": "Controls have no image of their own in the training set.",
            "extraction.groups.controls.*.*.own_ci": "Controls have no image of their own in the training set.",
        },
    }  # fmt: skip
    audit["verdict"] = verdict(audit)
    return audit


def _chest(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """A vaguely chest-like picture: two dark fields on grey."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    lungs = sum(np.exp(-(((x - cx) / 0.3) ** 2 + ((y - rng.uniform(-0.1, 0.1)) / 0.6) ** 2) * 2) for cx in (-0.42, 0.42))
    return np.clip(190 - 150 * np.asarray(lungs) + rng.normal(0, 6, (64, 64)), 0, 255).astype(np.uint8)


def write_run(path: Path, audit: dict[str, Any], status: dict[str, Any] | None = None) -> Path:
    """Write a finished run's files."""
    (path / "evidence").mkdir(parents=True)
    (path / ".hydra").mkdir()
    (path / ".hydra" / "overrides.yaml").write_text("- experiment=nih_canaries\n- seed=7\n")
    (path / "status.json").write_text(json.dumps(status or {"status": "done", "error": None, "seed": 7}))
    (path / "audit.json").write_text(json.dumps(audit))
    for index, strip in enumerate(audit["strips"]):
        for offset, name in enumerate(strip["images"].values()):
            seed = index if strip["replayed"] else 10 * index + offset
            Image.fromarray(_chest(np.random.default_rng(seed))).save(path / name)
    return path


if __name__ == "__main__":
    write_run(Path(sys.argv[1]), fake_audit())
