"""The page: its numbers are the audit's, it needs no network, hostile text stays text."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cxrguard.audit.charts import NARROW, exposure_chart
from cxrguard.audit.model_card import write_model_card
from cxrguard.audit.record import PROMPTS, lookup
from cxrguard.audit.report import embed_image, format_number, render_report, write_report
from cxrguard.audit.roc_chart import roc_chart
from cxrguard.audit.study import collect_study, write_study
from cxrguard.audit.timeline_chart import timeline_chart
from cxrguard.errors import CxrguardError

Audit = dict[str, Any]
HOSTILE = '<script>alert("x")</script><img src=https://evil.example/x.png>'


class Page(HTMLParser):
    """Gathers tags, the ``data`` elements and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def figures(self) -> dict[str, str]:
        return {str(attrs["data-key"]): str(attrs["value"]) for tag, attrs in self.tags if tag == "data"}


def test_numbers_are_the_audits(run_dir: Path, audit: Audit) -> None:
    page = Page(write_report(run_dir))
    figures = page.figures()
    for key, value in figures.items():
        assert value == str(lookup(audit, key)), key
    for key in ("canaries.extraction_rate", "canaries.extraction_ci.1", "controls.spillover_rate", "members.extraction_rate",
                "canaries.by_repeats.1.extraction_rate",
                "fidelity.heldout_loss", "detectors.denoising_loss.auc", "detectors.denoising_loss.auc_ci.0",
                "detectors.text_noise_norm.tpr_at_1pct_fpr_ci.1", "detectors.text_noise_norm.tpr_at_01pct_fpr",
                "detectors.text_noise_norm.evals_per_prompt", "detectors.denoising_loss.lowest_repeats",
                "detectors.text_noise_norm.outcome.auc_ci.0", "detectors.text_noise_norm.by_repeats.1.exposure",
                "controls.prompt_only.n", "controls.prompt_only.spillover_rate",
                "extraction.groups.controls.pixels.16.any", "sanitizer.residual_markers", "seconds.train", "seconds.final",
                "words.top.0.contribution_ci.1", "words.rare", "marker_test.groups.canaries.marker.mean",
                "marker_test.groups.controls.placebo.ci.0"):  # fmt: skip
        assert key in figures
    assert "24 of 32" in page.text
    assert "repeats 8, 15," in page.text
    assert "Must not be released" in page.text
    for reason in audit["verdict"]["reasons"]:
        assert reason in page.text


def test_the_page_is_private_and_needs_no_network(run_dir: Path) -> None:
    path = write_report(run_dir)
    assert path.stat().st_mode & 0o777 == 0o600
    page = Page(path)
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed")
        for name in ("src", "href", "srcset", "action"):
            assert re.match(r"data:image/|#|$", attrs.get(name) or ""), (tag, name)
    assert not re.search("https?://", path.read_text())
    assert sum(tag == "img" for tag, _ in page.tags) == 5 + 14  # five charts; three images a strip, the control has no original
    assert write_report(run_dir).read_text() == path.read_text()  # equal audits give equal bytes


def test_null_is_a_dash_with_its_reason(run_dir: Path, audit: Audit) -> None:
    page = Page(write_report(run_dir))
    assert "fidelity.heldout_loss_base" not in page.figures()
    assert "base model –" in page.text
    assert "Trained from scratch: there is no base model." in page.text
    assert "Controls have no image of their own" in page.text
    ids = {attrs["id"] for _, attrs in page.tags if attrs.get("id")}
    links = {str(attrs["href"])[1:] for tag, attrs in page.tags if tag == "a"}
    assert set() < links <= ids


def test_what_the_guard_did_is_summed_up(run_dir: Path) -> None:
    page = Page(write_report(run_dir))
    assert "loss_ floor 4.0 % 6.0 % 100 to 200" in page.text
    assert "action lower_rate" in page.text and "hold_back" not in page.text


def test_words_are_shown_with_markers_flagged(run_dir: Path) -> None:
    page = Page(write_report(run_dir))
    assert "___ marker 192" in page.text and "effusion 64" in page.text and "effusion marker" not in page.text
    assert "612 rarer words are not shown, nor are 1 that" in page.text.replace("\u202f", " ")
    assert "in no canary's prompt" in page.text and "two pairs are needed; there is 1" in page.text


@pytest.mark.parametrize("why", ["off", "failed"])
def test_words_that_were_not_looked_at_have_a_reason(rewrite: Callable[[Audit], Path], audit: Audit, why: str) -> None:
    audit["words"] = audit["marker_test"] = None
    audit["null_reasons"] |= {"words": "not asked for", "marker_test": "not asked for"}
    if why == "failed":
        audit["words"], audit["marker_test"] = {"top": None, "reason": "not asked for"}, {"groups": None, "reason": "not asked for"}
    page = Page(write_report(rewrite(audit)))
    assert re.search(r"Words: – \d+ Marker test: – \d+", page.text)
    assert "not asked for" in page.text and "Is it the marker?" not in page.text


def test_prompts_are_shown_only_where_the_run_left_them(run_dir: Path, audit: Audit) -> None:
    assert "Prompt" not in Page(write_report(run_dir)).text.split()
    wordings = [f"Since ___, {HOSTILE} large.", "Large."]
    shown = {"strips": {audit["strips"][0]["hash"]: wordings}, "sanitizer": [["Before ___.", ""]]}
    (run_dir / PROMPTS).write_text(json.dumps(shown))
    page = Page(write_report(run_dir))
    assert page.text.count(wordings[0]) == 1 and "As trained on: Large." in page.text and "after (left out)" in page.text
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert wordings[0] not in render_report(run_dir, show_prompts=False) and "Before ___" not in render_report(run_dir, show_prompts=False)


def test_each_part_can_be_reached_by_keyboard(run_dir: Path) -> None:
    page = Page(write_report(run_dir))
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    links = [str(attrs["href"])[1:] for tag, attrs in page.tags if tag == "a"]
    assert len(ids) == len(set(ids)) and set(links) <= set(ids) and links[0] == "main"
    assert {f"n-{part}" for part in ("outcome", "detectors", "roc", "strips", "words", "guard", "cost", "reproduce")} <= set(links)


def test_a_curve_without_a_band_and_actions_without_a_step_are_drawn(audit: Audit) -> None:
    entry = audit["detectors"]["denoising_loss"]
    assert roc_chart({"one": entry | {"roc": entry["roc"] | {"low": None, "high": None}}}) and roc_chart({"one": {"roc": None}}) is None
    many = {f"$\\frac{i}": entry for i in range(9)}
    assert roc_chart(many) and roc_chart(many, NARROW)
    assert timeline_chart([HOSTILE, {"action": "x"}], [], 10) is None
    held = {"step": 1, "action": "hold_back", "by": "$\\frac", "share": 0.5}
    alone = [timeline_chart([action], [], 10) for action in (held, {"step": 2, "action": "warn"})]
    assert all(alone) and alone[0] != alone[1]


def test_forecast_and_mitigations_at_inference_are_shown(run_dir: Path) -> None:
    page = Page(write_report(run_dir))
    figures = page.figures()
    assert figures["forecast.levels.2.onset"] and figures["forecast.slope"]
    assert "1 500 and later than the run" in page.text and "no canary of this level" in page.text
    at = "inference_mitigations.mitigations"
    assert figures[f"{at}.opposite_guidance.canaries.own_rate"] and figures[f"{at}.opposite_guidance.fidelity.labels.auc"]
    assert figures[f"{at}.none.detectors.text_noise_norm.auc"] and f"{at}.opposite_guidance.detectors.text_noise_norm.auc" not in figures
    assert "a guidance schedule changes no input of a detector" in page.text


def test_hostile_text_stays_text(rewrite: Callable[[Audit], Path], audit: Audit) -> None:
    for holder, key in ((audit["run"], "name"), (audit["run"], "command"), (audit, "config_hash"), (audit["strips"][0], "hash")):
        holder[key] = HOSTILE
    audit["verdict"]["reasons"].append(HOSTILE)
    audit["actions"] += [HOSTILE, {HOSTILE: HOSTILE}]
    audit["null_reasons"]["fidelity.heldout_loss_base"] = HOSTILE
    audit["detectors"]["$\\frac$" + HOSTILE] = audit["detectors"]["denoising_loss"] | {"reason": HOSTILE, "direction": HOSTILE}
    audit["curves"][1]["detectors"]["$\\frac$" + HOSTILE] = {"auc": 0.5}
    page = Page(write_report(rewrite(audit)))
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert all(str(attrs["src"]).startswith("data:") for tag, attrs in page.tags if tag == "img")
    assert HOSTILE in page.text


def test_images_outside_the_run_are_not_embedded(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes((run_dir / "evidence/0_original.png").read_bytes())
    (run_dir / "not.png").write_text("text")
    for path in ("../secret.png", str(tmp_path / "secret.png"), "not.png", "absent.png", None, ""):
        assert embed_image(run_dir, path) is None
    assert embed_image(run_dir, "evidence/0_original.png") is not None


def test_only_the_contracts_keys_are_needed(rewrite: Callable[[Audit], Path], audit: Audit) -> None:
    for key in ("extraction", "curves", "strips", "run", "words", "marker_test"):
        del audit[key]
    del audit["seconds"]["rounds"], audit["seconds"]["final"]
    audit["actions"], audit["detectors"] = [], {}
    text = Page(write_report(rewrite(audit))).text
    assert "ROC curves" not in text and "Is it the marker?" not in text
    assert "No curve was recorded." in text
    assert "Not measured." in text


def test_a_missing_audit_is_told(tmp_path: Path) -> None:
    with pytest.raises(CxrguardError, match=r"Cannot read audit\.json"):
        write_report(tmp_path)


def test_no_exposure_chart_with_a_single_level(rewrite: Callable[[Audit], Path], audit: Audit) -> None:
    assert exposure_chart(audit["detectors"]) and "Exposure by repeats" in Page(write_report(rewrite(audit))).text
    for entry in audit["detectors"].values():
        entry["by_repeats"] = (entry.get("by_repeats") or [])[:1]
    del audit["controls"]["prompt_only"]
    page = Page(write_report(rewrite(audit)))
    assert exposure_chart(audit["detectors"]) is None and exposure_chart({}) is None
    assert "Exposure by repeats" not in page.text and "repeat level" not in page.text and "only prompts" not in page.text
    assert sum(tag == "img" for tag, _ in page.tags) == 4 + 14


def test_levels_whose_exposure_is_unknown_are_left_out_of_the_chart(audit: Audit) -> None:
    entry = audit["detectors"]["denoising_loss"]
    many = {f"name {i} $\\frac$": copy.deepcopy(entry) for i in range(14)}
    assert exposure_chart(many)
    for one in many.values():
        one["by_repeats"][0] |= {"exposure": None, "exposure_ci": None}
    assert exposure_chart(many) is None
    many["another"] = copy.deepcopy(entry) | {"by_repeats": [entry["by_repeats"][0] | {"exposure_ci": None}]}
    assert exposure_chart(many)


@pytest.mark.parametrize(
    ("value", "kind", "printed"),
    [(0.5625, "pct", "56.2\u00a0%"), (12345, "int", "12\u202f345"), (0.12345, "f3", "0.123"), (90.0, "seconds", "90.0 s"),
     (600, "seconds", "10.0 min"), (0.000123456, "auto", "0.0001235"), (True, "auto", "True"), ([1, 2], "auto", "[1, 2]")],
)  # fmt: skip
def test_format_number(value: object, kind: str, printed: str) -> None:
    assert format_number(value, kind) == printed


def _study(tmp_path: Path, audit: Audit, write_run: Callable[..., Path]) -> Path:
    root = tmp_path / "study"
    for number in (0, 2, 10):
        write_run(root / str(number), copy.deepcopy(audit) | {"seed": number}, {"status": "done", "error": None, "seed": number})
    (root / "2" / "audit.json").unlink()
    (root / "2" / "status.json").write_text(json.dumps({"status": "failed", "error": f"out of memory {HOSTILE}", "seed": 2}))
    (root / "3" / ".hydra").mkdir(parents=True)
    (root / "notes").mkdir()
    (root / "10" / "audit.json").write_text("{")
    return root


def test_study_keeps_failed_killed_and_broken_arms(tmp_path: Path, audit: Audit, write_run: Callable[..., Path]) -> None:
    root = _study(tmp_path, audit, write_run)
    study = collect_study(root)
    assert [arm["dir"] for arm in study["arms"]] == ["0", "2", "3", "10"]
    assert [arm["status"] for arm in study["arms"]] == ["done", "failed", "failed", "done"]
    assert study["arms"][0]["overrides"] == ["experiment=nih_canaries", "seed=7"]
    assert study["arms"][0]["audit"] == audit | {"seed": 0}
    assert "killed" in study["arms"][2]["error"]
    assert "not JSON" in study["arms"][3]["error"]
    assert json.loads((root / "study.json").read_text()) == study
    assert (root / "study.json").stat().st_mode & 0o777 == 0o600


def test_study_page_compares_and_links(tmp_path: Path, audit: Audit, write_run: Callable[..., Path]) -> None:
    root = _study(tmp_path, audit, write_run)
    path = write_study(root)
    page = Page(path)
    links = [str(attrs["href"]) for tag, attrs in page.tags if tag == "a" and not str(attrs["href"]).startswith("#")]
    assert links == ["0/report.html"]
    assert (root / links[0]).is_file()
    assert path.stat().st_mode & 0o777 == 0o600
    assert HOSTILE in page.text
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert page.figures()["detectors.denoising_loss.auc"] == str(audit["detectors"]["denoising_loss"]["auc"])
    assert "Must not be released" not in page.text


@pytest.mark.parametrize("inside", [False, True])
def test_a_single_arm_has_its_whole_report_inline(tmp_path: Path, audit: Audit, write_run: Callable[..., Path], inside: bool) -> None:
    root = tmp_path / "demo"
    write_run(root if inside else root / "0", audit)
    page = Page(write_study(root))
    assert "Must not be released" in page.text
    assert sum(tag == "img" for tag, _ in page.tags) == 19


def test_a_directory_without_runs_is_told(tmp_path: Path) -> None:
    with pytest.raises(CxrguardError, match="No run under"):
        write_study(tmp_path)


def test_model_card(run_dir: Path, rewrite: Callable[[Audit], Path], audit: Audit) -> None:
    path = write_model_card(run_dir)
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "**Must not be released**" in text
    assert "75.0\u00a0% (95 % interval 57.9\u00a0% to 86.7\u00a0%)" in text
    assert "– (Trained from scratch: there is no base model.)" in text
    assert "| 100 |" in text and "yes; lowest repeats detected: 15 |" in text
    rows = [line for line in text.splitlines() if line.startswith(("| Detector", "| text_noise", "| token", "| denoising"))]
    assert len(rows) == 5 and len({row.count("|") for row in rows}) == 1
    audit["run"]["name"] = "<b>|\n# x"
    assert "\n# x" not in write_model_card(rewrite(audit)).read_text()
