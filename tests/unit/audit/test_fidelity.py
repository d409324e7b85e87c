"""Fidelity: labels are read off images that show them and off no others; the kernel distance against a naive double loop."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cxrguard.audit.feature_distance import kernel_distance
from cxrguard.audit.fidelity import TOO_FEW, Fidelity, FittedFidelity, labels_of
from cxrguard.audit.label_reader import Scale, fit_reader
from cxrguard.audit.record import validate_audit
from cxrguard.audit.report import render_body
from cxrguard.data.prepare import PromptedRecord
from cxrguard.data.records import ReportRecord

FAKE = runpy.run_path(str(Path(__file__).with_name("fake_audit.py")))
RNG = np.random.default_rng(0)


def image(bright: bool, noise: float = 40.0) -> np.ndarray:
    """32 × 32; the left half is brighter where the label is there."""
    grey = np.full((32, 32), 100.0) + RNG.normal(0, noise, (32, 32))
    grey[:, :16] += 30.0 * bright
    return grey.clip(0, 255).astype(np.uint8)


def sample(index: int, kind: str) -> PromptedRecord:
    """Every second one has the finding; sex and the rare label cannot be seen."""
    labels = ("Mass",) if index % 2 else ("No Finding",)
    labels += ("Rare",) if index % 25 == 0 else ()
    name = f"{kind}{index}"
    record = ReportRecord(name, name, name, "Report.", labels, "PA", sex="F" if index % 3 else "M")
    return PromptedRecord(record, "Report.", image(bool(index % 2)))


def study(n_heldout: int = 120, n_controls: int = 60) -> Any:
    return SimpleNamespace(
        members=[], heldout=[sample(i, "h") for i in range(n_heldout)], controls=[sample(i, "c") for i in range(n_controls)]
    )


def fitted(**kwargs: int) -> FittedFidelity:
    return Fidelity().fit(SimpleNamespace(seed=3), study(**kwargs))  # type: ignore[arg-type]


def samples(right: bool, n: int = 60, k: int = 2) -> Tensor:
    """What a model would make of the controls' prompts: the finding where it is asked for, or one side for all."""
    pixels = np.stack([[image(bool(i % 2) if right else True) for _ in range(k)] for i in range(n)])
    return torch.from_numpy(pixels).float()[:, :, None] / 127.5 - 1


def test_labels_are_read_off_images_that_show_them_and_off_no_others() -> None:
    judge = fitted()
    good, blind = judge.measure(samples(True), 1), judge.measure(samples(False), 1)
    mass = good["labels"]["by_label"]["finding: Mass"]
    assert mass["auc"] > 0.95 and mass["balanced_accuracy"] > 0.9 and mass["real_auc"] > 0.95 and mass["counts"]
    assert (mass["n_with"], mass["n_without"]) == (30, 30)
    assert good["labels"]["auc_ci"][0] > 0.9 and blind["labels"]["auc_ci"][0] < 0.5 < blind["labels"]["auc_ci"][1]
    assert 0.4 < blind["labels"]["balanced_accuracy"] < 0.6
    assert good["distance"]["kid_ci"][1] < blind["distance"]["kid_ci"][0]
    assert abs(good["distance"]["real_kid"]) < 0.2 * blind["distance"]["kid"]


def test_what_cannot_be_seen_does_not_count_and_what_few_have_is_not_named() -> None:
    told = fitted().measure(samples(True), 1)["labels"]
    sex = told["by_label"]["sex: female"]
    assert not sex["counts"] and "cannot be read" in sex["reason"]
    assert set(told["by_label"]) == {"finding: Mass", "finding: No Finding", "sex: female"}  # 8 have the rare one, none is AP
    counted = [entry["auc"] for entry in told["by_label"].values() if entry["counts"]]
    assert told["auc"] == pytest.approx(np.mean(counted)) and len(counted) == 2


def test_only_the_wording_that_was_trained_on_and_the_first_draws_count() -> None:
    """Two wordings side by side, three draws: the first wording's samples and the third draw are of another kind."""
    right, wrong = samples(True, k=3), samples(False, k=3)
    both = torch.stack([wrong, right], dim=2).flatten(1, 2)
    both[:, 5] = wrong[:, 2]
    judge = fitted()
    assert judge.measure(both, 2) == judge.measure(right[:, :2], 1)


def test_withheld_prompts_do_not_count() -> None:
    judge = fitted()
    kept = np.arange(60) < 40
    pixels = samples(True)
    less = judge.measure(torch.where(torch.from_numpy(kept)[:, None, None, None, None], pixels, samples(False)), 1, kept)
    assert less["n_prompts"] == 40 and less["labels"]["by_label"]["finding: Mass"]["n_with"] == 20
    assert less["labels"]["auc"] > 0.95
    nothing = judge.measure(pixels, 1, np.zeros(60, bool))
    assert nothing["labels"]["auc"] is None and nothing["labels"]["reason"] == nothing["distance"]["reason"] == "no image was generated"


@pytest.mark.parametrize("n_heldout", [0, 120, 12])
def test_figures_fit_the_audit_and_the_report_whatever_can_be_had(n_heldout: int, tmp_path: Path) -> None:
    audit = FAKE["fake_audit"]()
    audit["fidelity"] |= fitted(n_heldout=n_heldout).measure(samples(True), 1)
    validate_audit(audit)
    if n_heldout == 0:
        assert audit["fidelity"]["labels"]["reason"] == audit["fidelity"]["distance"]["reason"] == TOO_FEW
    if n_heldout == 12:
        assert audit["fidelity"]["labels"]["auc"] is None
        page = str(render_body(audit, tmp_path))
        assert "Do images show what their prompts ask for?" in page and "10 real images to learn from" in page


def test_figures_do_not_depend_on_the_global_state_and_the_reader_sees_no_generated_image() -> None:
    judge = fitted()
    pixels = samples(True)
    torch.manual_seed(1)
    first = judge.measure(pixels, 1)
    torch.manual_seed(2)
    judge.measure(samples(False), 1)
    assert judge.measure(pixels, 1) == first


def test_unknown_is_not_absent() -> None:
    assert labels_of(ReportRecord("p", "s", "d", "Report.")) == {}
    assert labels_of(ReportRecord("p", "s", "d", "Report.", ("Mass",), "AP", sex="M")) == {
        "finding: Mass": True, "view: AP": True, "sex: female": False,
    }  # fmt: skip


def test_the_reader_is_the_weighted_ridge_regression_in_its_primal_form() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random(30) < 0.3
    features = rng.normal(size=(30, 50)) + labels[:, None]
    reader = fit_reader(features, labels, ridge=0.7)
    weights = np.where(labels, 15 / labels.sum(), 15 / (~labels).sum())
    x = np.hstack([features, np.ones((30, 1))])
    penalty = 0.7 * 50 * np.diag([1.0] * 50 + [0.0])  # the offset is not shrunk
    primal = np.linalg.solve(x.T @ (weights[:, None] * x) + penalty, x.T @ (weights * np.where(labels, 1.0, -1.0)))
    np.testing.assert_allclose(reader(features), x @ primal, atol=1e-9)
    with pytest.raises(ValueError, match="without it"):
        fit_reader(features, np.ones(30, bool))


def test_features_that_never_vary_say_nothing() -> None:
    scale = Scale.of(np.array([[1.0, 5.0], [3.0, 5.0]]))
    np.testing.assert_allclose(scale(np.array([[3.0, 9.0]])), [[1.0, 0.0]])


def naive_distance(x: np.ndarray, y: np.ndarray, a: list[int], b: list[int]) -> float:
    def k(p: np.ndarray, q: np.ndarray) -> float:
        return float((p @ q / len(p) + 1) ** 3)

    def within(rows: np.ndarray, of: list[int]) -> float:
        return float(np.mean([k(rows[i], rows[j]) for i in range(len(rows)) for j in range(len(rows)) if of[i] != of[j]]))

    return within(x, a) + within(y, b) - 2 * float(np.mean([k(p, q) for p in x for q in y]))


def test_the_kernel_distance_against_a_double_loop() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(0.4, 1, (12, 6)), rng.normal(size=(9, 6))
    a, b = [i // 2 for i in range(12)], [0, 0, 1, 2, 3, 4, 5, 6, 7]
    told = kernel_distance(x, y, a, b, n=50)
    assert told["kid"] == pytest.approx(naive_distance(x, y, a, b)) and told["kid_ci"][0] < told["kid_ci"][1]
    assert kernel_distance(x, y, [0] * 12, b)["kid"] is None


def test_the_kernel_distance_is_unbiased_between_samples_of_one_distribution() -> None:
    rng = np.random.default_rng(4)
    found = [kernel_distance(rng.normal(size=(20, 5)), rng.normal(size=(20, 5)), range(20), range(20), n=0)["kid"] for _ in range(300)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(300)
