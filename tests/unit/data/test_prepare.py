"""From a reader to a study: quarantine, split, planting, sanitizing, uniqueness."""

from __future__ import annotations

import csv
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrguard.data.lazy import Keep
from cxrguard.data.phantom import PhantomReader
from cxrguard.data.prepare import (
    CanarySettings,
    PromptedRecord,
    Study,
    WithoutPatients,
    check_study,
    load_images,
    plan,
    read_usable,
    sanitize_plan,
)
from cxrguard.data.records import Quarantined, ReportRecord
from cxrguard.errors import BadInputError, CxrguardError
from cxrguard.sanitizer.sanitizer import PromptSanitizer

SETTINGS = CanarySettings(n=4, repeats=3, n_controls=10)
GROUPS = ("members", "canaries", "controls", "heldout")


@dataclass(frozen=True)
class FakeReader:
    records: Sequence[ReportRecord]
    bad: Sequence[Quarantined] = ()

    def read(self, keep: Keep = list) -> tuple[Sequence[ReportRecord], list[Quarantined]]:
        return keep(self.records), list(self.bad)


class FakeTokenizer:
    """Cuts to so many characters."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, text: str, truncation: bool) -> Any:
        assert truncation
        return type("Encoding", (), {"input_ids": [ord(c) for c in text[: self.length]]})


def on_disk(folder: Path, n: int, broken: Sequence[int] = ()) -> list[ReportRecord]:
    records = []
    for i in range(n):
        path = folder / f"patient{i}.png"
        Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64) // (i + 1)).save(path)
        if i in broken:
            path.write_bytes(path.read_bytes()[:30])
        records.append(ReportRecord(f"p{i}", f"s{i}", f"d{i}", f"secret prompt {i}", image_path=str(path), row=i + 1))
    return records


@pytest.fixture(scope="module")
def records() -> list[ReportRecord]:
    return PhantomReader(n_patients=150, max_studies=2, image_size=8).read()[0]


@pytest.fixture(scope="module")
def sanitizer() -> PromptSanitizer:
    return PromptSanitizer(["mimic_cxr"], "repair")


def study_of(records: list[ReportRecord], sanitizer: PromptSanitizer, settings: CanarySettings = SETTINGS, seed: int = 0) -> Study:
    pixels = {r.dicom_id: r.pixels for r in records if r.pixels is not None}
    return sanitize_plan(plan(records, 0.4, settings, seed), pixels, sanitizer, 5)


def test_images_come_from_memory_or_disk_in_order_and_bad_ones_are_set_aside(tmp_path: Path) -> None:
    records = on_disk(tmp_path, 5, broken=[1])
    records[2] = replace(records[2], image_path="", pixels=np.full((16, 16), 7, np.uint8))
    records[3] = replace(records[3], image_path=str(tmp_path / "patient_not_there.png"))
    good, bad = load_images(records, 16)
    assert [r.dicom_id for r, _ in good] == ["d0", "d2", "d4"] and [q.row for q in bad] == [2, 4]
    assert all(x.shape == (16, 16) and x.dtype == np.uint8 for _, x in good) and (good[1][1] == 7).all()
    assert not any("patient" in q.reason or "secret" in q.reason for q in bad)


def test_quarantine_is_counted_and_written(tmp_path: Path) -> None:
    records = on_disk(tmp_path, 9, broken=[3])
    reader = FakeReader([r for r in records if r.row != 7], [Quarantined(7, "empty prompt")])
    usable, pixels, n_bad = read_usable(reader, 16, 0.5, tmp_path / "out")
    assert n_bad == 2 and len(usable) == 7 and set(pixels) == {r.dicom_id for r in usable}
    path = tmp_path / "out" / "quarantine.csv"
    assert [row["row"] for row in csv.DictReader(path.open())] == ["4", "7"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and "secret" not in path.read_text() and "patient" not in path.read_text()


def test_nothing_is_written_where_nothing_is_bad(tmp_path: Path) -> None:
    usable, _, n_bad = read_usable(FakeReader(on_disk(tmp_path, 2)), 16, 0.0, tmp_path / "out")
    assert n_bad == 0 and len(usable) == 2 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("broken", "allowed"), [([0, 1], 0.1), ([0, 1, 2, 3], 1.0)])
def test_too_many_bad_samples_stop_the_run(tmp_path: Path, broken: list[int], allowed: float) -> None:
    with pytest.raises(BadInputError, match=f"{len(broken)} of 4 samples") as caught:
        read_usable(FakeReader(on_disk(tmp_path, 4, broken)), 16, allowed, tmp_path)
    assert "secret" not in str(caught.value) and (tmp_path / "quarantine.csv").exists()


def test_an_empty_data_set(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no usable sample"):
        read_usable(FakeReader([]), 16, 0.0, tmp_path)


def test_groups_are_disjoint_by_patient_and_complete(records: list[ReportRecord], sanitizer: PromptSanitizer) -> None:
    study = study_of(records, sanitizer)
    patients = [{p.record.subject_id for p in getattr(study, g)} for g in GROUPS]
    assert sum(map(len, patients)) == len(set().union(*patients)) and study.subjects() == set().union(*patients)
    assert [len(study.canaries), len(study.controls)] == [4, 10] and study.repeats == (3, 3, 3, 3) and study.n_quarantined == 5
    assert study.share == pytest.approx(12 / (12 + len(study.members)))
    by_id = {r.dicom_id: r for r in records}
    for group in GROUPS:
        for sample in getattr(study, group):
            assert np.array_equal(sample.pixels, by_id[sample.record.dicom_id].pixels)  # type: ignore[arg-type]


def test_prompts_are_sanitized_and_the_originals_kept(records: list[ReportRecord], sanitizer: PromptSanitizer) -> None:
    study = study_of(records, sanitizer)
    samples = [p for g in GROUPS for p in getattr(study, g)]
    assert all("___" in p.record.prompt and "_" not in p.sanitized for p in samples)
    counts = study.sanitizer_counts
    assert counts["prompts"] == counts["edited"] + counts["emptied"] + counts["refused"] and counts["residual_markers"] == 0
    assert len(samples) == counts["prompts"] - counts["emptied"] - counts["refused"]
    off = study_of(records, PromptSanitizer(["mimic_cxr"], "off"))
    assert all(p.sanitized == p.record.prompt for g in GROUPS for p in getattr(off, g)) and off.sanitizer_counts["residual_markers"] > 0


def test_a_study_is_a_function_of_its_seed(records: list[ReportRecord], sanitizer: PromptSanitizer) -> None:
    def ids(study: Study, group: str) -> list[str]:
        return [p.record.dicom_id for p in getattr(study, group)]

    first, again, other = (study_of(records, sanitizer, seed=s) for s in (0, 0, 1))
    assert [p.record.prompt for p in first.canaries] == [p.record.prompt for p in again.canaries]
    assert ids(first, "canaries") != ids(other, "canaries")
    assert ids(study_of(records[::-1], sanitizer), "canaries") == ids(first, "canaries")


def test_without_canaries_all_held_out_is_kept(records: list[ReportRecord], sanitizer: PromptSanitizer) -> None:
    study = study_of(records, sanitizer, CanarySettings(n=0))
    assert study.canaries == study.controls == [] and study.repeats == () and study.share == 0
    assert len(study.members) + len(study.heldout) == len(records)
    assert study.members[0].record.prompt in {r.prompt for r in records}  # nothing is planted
    check_study(study, FakeTokenizer(1))


def test_repeats_by_canary_and_the_limit_on_their_share(records: list[ReportRecord], sanitizer: PromptSanitizer) -> None:
    assert study_of(records, sanitizer, CanarySettings(n=3, repeats=(1, 2, 4), n_controls=2)).repeats == (1, 2, 4)
    with pytest.raises(CxrguardError, match=r"canaries\.max_share"):
        study_of(records, sanitizer, CanarySettings(n=4, repeats=50, n_controls=2))


class Verdicts:
    """A sanitizer that gives the prompts of some statuses."""

    def __init__(self, statuses: dict[str, str]) -> None:
        self.statuses = statuses

    def forget(self) -> None:
        """Nothing is remembered."""

    def sanitize(self, prompts: Sequence[str]) -> Any:
        found = [next((s for word, s in self.statuses.items() if word in p), "unchanged") for p in prompts]
        texts = ["" if s in ("emptied", "refused") else p for p, s in zip(prompts, found, strict=True)]
        return type("Result", (), {"prompts": texts, "statuses": found, "counts": {s: found.count(s) for s in set(found)}})


@pytest.mark.parametrize("status", ["refused", "emptied"])
def test_refused_and_emptied_prompts(records: list[ReportRecord], status: str) -> None:
    planned = plan(records, 0.4, SETTINGS, 0)
    pixels = {r.dicom_id: np.zeros((8, 8), np.uint8) for r in records}
    gone = [planned.members[3].prompt, planned.heldout[0].prompt]
    study = sanitize_plan(planned, pixels, Verdicts(dict.fromkeys(gone, status)), 0)  # type: ignore[arg-type]
    assert len(study.members) == len(planned.members) - 1 and len(study.heldout) == len(planned.heldout) - 1
    assert study.sanitizer_counts[status] == 2
    for planted in (planned.canaries[0], planned.controls[2]):
        with pytest.raises(CxrguardError, match=f"the sanitizer {status} the prompt of one of the c") as caught:
            sanitize_plan(planned, pixels, Verdicts({planted.prompt: status}), 0)  # type: ignore[arg-type]
        assert planted.prompt not in str(caught.value)


def test_prompt_only_controls_are_sanitized_and_not_counted(records: list[ReportRecord], sanitizer: PromptSanitizer) -> None:
    without = study_of(records, sanitizer)
    study = study_of(records, sanitizer, replace(SETTINGS, n_prompt_controls=40))
    assert without.prompt_controls == [] and len(study.prompt_controls) == 40
    assert study.sanitizer_counts == without.sanitizer_counts  # the data set's figures stay what they are
    assert study.subjects() == without.subjects() and study.share == without.share
    for group in GROUPS:
        assert [p.record.prompt for p in getattr(study, group)] == [p.record.prompt for p in getattr(without, group)]
    assert all("___" in p.record.prompt and "_" not in p.sanitized for p in study.prompt_controls)
    by_sanitizing_alone = sanitizer.sanitize([p.record.prompt for p in study.prompt_controls]).prompts
    assert [p.sanitized for p in study.prompt_controls] == by_sanitizing_alone
    trained = {p.record.subject_id for p in study.trained}
    assert not trained & {p.record.subject_id for p in study.prompt_controls}
    check_study(study, FakeTokenizer(10_000))
    twin = replace(study.prompt_controls[0], sanitized=study.canaries[0].sanitized)
    with pytest.raises(CxrguardError, match="sanitized prompts are not unique"):
        check_study(replace(study, prompt_controls=[twin]), FakeTokenizer(10_000))


@pytest.mark.parametrize("status", ["refused", "emptied"])
def test_a_prompt_only_control_that_does_not_survive_is_left_out(records: list[ReportRecord], status: str) -> None:
    planned = plan(records, 0.4, replace(SETTINGS, n_prompt_controls=12), 0)
    pixels = {r.dicom_id: np.zeros((8, 8), np.uint8) for r in records}
    study = sanitize_plan(planned, pixels, Verdicts({planned.prompt_controls[7].prompt: status}), 0)  # type: ignore[arg-type]
    kept = [r.prompt for i, r in enumerate(planned.prompt_controls) if i != 7]
    assert [p.record.prompt for p in study.prompt_controls] == kept and study.sanitizer_counts.get(status, 0) == 0


def test_planted_prompts_must_be_told_apart(records: list[ReportRecord], sanitizer: PromptSanitizer) -> None:
    study = study_of(records, sanitizer)
    check_study(study, FakeTokenizer(10_000))
    with pytest.raises(CxrguardError, match="token ids after truncation are not unique"):
        check_study(study, FakeTokenizer(5))
    twin = PromptedRecord(study.members[0].record, study.canaries[0].sanitized, study.members[0].pixels)
    with pytest.raises(CxrguardError, match="sanitized prompts are not unique") as caught:
        check_study(replace(study, members=[twin, *study.members[1:]]), FakeTokenizer(10_000))
    assert study.canaries[0].sanitized not in str(caught.value)
    same = [replace(study.canaries[0], sanitized="x"), *study.canaries[:1]]
    with pytest.raises(CxrguardError, match="original prompts are not unique"):
        check_study(replace(study, canaries=same), FakeTokenizer(10_000))


def test_without_patients(records: list[ReportRecord]) -> None:
    gone = frozenset({records[0].subject_id, records[-1].subject_id})
    left, bad = WithoutPatients(FakeReader(records, [Quarantined(1, "x")]), gone).read()
    assert left == [r for r in records if r.subject_id not in gone] and len(left) < len(records) and len(bad) == 1
