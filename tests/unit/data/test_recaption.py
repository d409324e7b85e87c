"""Recaptioning: no word of a report is left in what is trained on, facts stay, and both wordings are attacked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cxrguard.audit.groups import build_judged
from cxrguard.data.datamodule import ReportDataModule
from cxrguard.data.phantom import PhantomReader
from cxrguard.data.prepare import CanarySettings, check_study, plan, sanitize_plan
from cxrguard.data.recaption import GROUPS, Recaption, caption_of
from cxrguard.data.records import ReportRecord
from cxrguard.diffusion.loading import PipelineParts, load_pipeline
from cxrguard.errors import BadInputError, CxrguardError
from cxrguard.sanitizer.sanitizer import PromptSanitizer

SETTINGS = CanarySettings(n=4, repeats=3, n_controls=8, n_members=5, n_steering=4, n_prompt_controls=6, near_copies=True)


@pytest.fixture(scope="module")
def records() -> list[ReportRecord]:
    return PhantomReader(n_patients=60, image_size=32).read()[0]


@pytest.fixture(scope="module")
def study(records):
    pixels = {r.dicom_id: r.pixels for r in records}
    return sanitize_plan(plan(records, 0.5, SETTINGS, 0), pixels, PromptSanitizer(["mimic_cxr"], "off"), 0)


@pytest.mark.parametrize(
    ("record", "caption"),
    [
        (ReportRecord("p", "s", "d", "Report.", ("Pleural_Thickening", "Edema"), "AP", sex="F"),
         "AP chest radiograph of a female patient. Pleural thickening. Edema."),
        (ReportRecord("p", "s", "d", "Report.", ("No Finding",), sex="M"), "Chest radiograph of a male patient. No finding."),
        (ReportRecord("p", "s", "d", "Report.", view="PA"), "PA chest radiograph."),
    ],
)  # fmt: skip
def test_a_caption_says_what_is_known(record, caption):
    assert caption_of(record) == caption


def test_every_group_is_recaptioned_and_the_reports_stay_as_the_other_wording(study):
    changed, [action] = Recaption("labels").apply(study)
    for name in GROUPS:
        before, after = getattr(study, name), getattr(changed, name)
        assert len(before) > 0 and [p.record for p in after] == [p.record for p in before]
        assert [p.sanitized for p in after] == [caption_of(p.record) for p in before]
    planted = {word for p in study.canaries for word in p.record.prompt.partition("Note ")[2].split(".")[0].split()}
    assert len(planted) > 6 and not planted & {word for p in changed.trained for word in p.sanitized.split()}
    trained = [p.sanitized for p in changed.trained]
    assert action == {
        "step": 0, "action": "recaption", "source": "labels", "prompts": len(trained),
        "different_captions": len(set(trained)), "without_labels": 0,
    }  # fmt: skip
    assert len(set(trained)) < len(trained) / 2
    copies = {of: {p.sanitized for p, i in zip(changed.copies, changed.copy_of, strict=True) if i == of} for of in range(4)}
    assert copies == {i: {p.sanitized} for i, p in enumerate(changed.canaries)}, "near copies have their canary's caption"


def test_off_changes_nothing(study):
    same, actions = Recaption().apply(study)
    assert same is study and actions == []


def test_what_it_cannot_go_with_is_told(study):
    bare = replace(study, **{name: [replace(p, record=replace(p.record, labels=())) for p in getattr(study, name)] for name in GROUPS})
    with pytest.raises(BadInputError, match="needs labels"):
        Recaption("labels").apply(bare)
    with pytest.raises(CxrguardError, match=r"canaries\.arms"):
        Recaption("labels").apply(replace(study, arms={"canaries": ("marker",) * 4}))
    with pytest.raises(CxrguardError, match=r"guard\.recaption\.source must be one of off, labels"):
        Recaption("reports")


@pytest.fixture(scope="module")
def parts(pipeline_dir) -> PipelineParts:
    return load_pipeline(str(pipeline_dir))


def test_both_wordings_are_attacked_and_samples_that_share_a_caption_do_not_share_noise(study, parts):
    changed, _ = Recaption("labels").apply(study)
    check_study(changed, parts.tokenizer)
    judged = build_judged(parts, changed, 5, 0)
    for name, group in judged.groups.items():
        original, caption = group.variants
        samples = {"canaries": changed.canaries, "controls": changed.controls, "prompt_controls": changed.prompt_controls}.get(name)
        if samples:
            assert original.prompts == tuple(p.record.prompt for p in samples)
            assert caption.prompts == tuple(caption_of(p.record) for p in samples)
        assert len(set(caption.keys)) == len(caption.keys) and not set(caption.keys) & set(original.keys)
    assert any(len(set(group.variants[1].prompts)) < len(group) for group in judged.groups.values())


def test_batches_hold_captions_and_nothing_else(parts, tmp_path: Path):
    data = ReportDataModule(
        PhantomReader(n_patients=60, image_size=32), PromptSanitizer(["mimic_cxr"], "off"), SETTINGS, image_size=32, heldout_fraction=0.5,
        out_dir=tmp_path, recaption=Recaption("labels"),
    )  # fmt: skip
    study = data.encode(parts)
    assert set(data.train_set.prompts) == {caption_of(p.record) for p in study.trained}
    assert data.count_markers() == 0 and [a["action"] for a in data.actions] == ["recaption"]
    data.encode(parts)
    assert [a["action"] for a in data.actions] == ["recaption"], "another encoding does not say it twice"
