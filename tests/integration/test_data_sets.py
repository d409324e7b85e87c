"""Every data set of ``conf/data`` from its own layout to batches, and two of them through ``train.py``."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from data_miniatures import chexpert_plus, mimic, nih, open_i, own, padchest
from data_miniatures.samples import MISSING, N_PATIENTS, SAME_IMAGE, SAME_REPORT, SIDE, TRUNCATED, Miniature, Sample, draw_samples
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from leaks import leaks, protected
from omegaconf import DictConfig

from cxrguard.audit.record import read_audit
from cxrguard.data.datamodule import ReportDataModule
from cxrguard.data.padchest import SPANISH
from cxrguard.data.prepare import PromptedRecord, Study
from cxrguard.data.spool import Spool, Spools
from cxrguard.diffusion.loading import PipelineParts, load_pipeline
from tests.conftest import ROOT, SMALL
from train import build_data

GROUPS = ("members", "canaries", "controls", "heldout")
BATCH = 8
MIN_HELDOUT = 100  # a replay threshold needs as many held-out images that are neither canaries nor controls


@dataclass(frozen=True)
class Case:
    """A data set as a user would train on it.

    ``markers`` are what its own reports have that must be gone; none where the data set has none, or where they are leads only.
    ``patients`` are known in all but Open-I, where each report counts as one.
    """

    write: Callable[[Path, list[Sample]], Miniature]
    phrases: tuple[str, ...]
    sanitizer: list[str]
    markers: tuple[str, ...]
    patients: bool = True
    overrides: tuple[str, ...] = ()
    warning: str = ""

    def samples(self) -> list[Sample]:
        return draw_samples(self.phrases)


MIMIC, OPEN_I, AUTO = ["sanitizer=mimic_cxr"], ["sanitizer=open_i"], ["sanitizer=auto"]
SURROGATES = [*AUTO, "sanitizer.conventions=[auto,surrogates]"]
TAGS = ("<DATE>", "[REDACTED]", "[NAME]")
CASES = {
    "mimic_cxr_jpg": Case(mimic.write_jpg, mimic.PHRASES, MIMIC, ("___",)),
    "llavarad": Case(mimic.write_llavarad, mimic.PHRASES, MIMIC, ("___",)),
    "nih_cxr14": Case(nih.write, ("",), MIMIC, ("___",)),
    "open_i": Case(open_i.write_xml, open_i.PHRASES, OPEN_I, ("XXXX",), patients=False),
    "open_i_kaggle": Case(open_i.write_kaggle, open_i.PHRASES, OPEN_I, ("XXXX",), patients=False, overrides=("data.prompt=both",)),
    "chexpert_plus": Case(chexpert_plus.write, chexpert_plus.PHRASES, SURROGATES, ("10/12/2007", "Miller", "March 3")),
    "padchest": Case(padchest.write, ("",), AUTO, (), warning=SPANISH),
    "table": Case(own.write_table, own.PHRASES, AUTO, TAGS),
    "webdataset": Case(own.write_webdataset, own.PHRASES, AUTO, TAGS),
}


def composed(*overrides: str) -> DictConfig:
    """The configuration that ``train.py`` would have, of a small run."""
    small = [setting for setting in SMALL if not setting.startswith("data.reader.")]  # those are the phantoms'
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", [*small, f"data.batch_size={BATCH}", *overrides])


@dataclass
class Encoded:
    """A data set that was read, split, planted, sanitized and encoded as a run does it."""

    case: Case
    samples: list[Sample]
    written: Miniature
    run_dir: Path
    data: ReportDataModule

    @cached_property
    def study(self) -> Study:
        return self.data.study

    def prompted(self) -> list[PromptedRecord]:
        return [p for group in GROUPS for p in getattr(self.study, group)]

    def of_patient(self, number: int) -> set[int]:
        """The rows of a sample's patient."""
        patient = self.samples[number].patient
        own = [s.number for s in self.samples if s.patient == patient] if self.case.patients else [number]
        return {self.written.rows[n] for n in own}

    def subject_of(self, number: int) -> str:
        """The patient of a sample, as the reader names it."""
        rows = self.of_patient(number)
        return next(p.record.subject_id for p in self.prompted() if p.record.row in rows)


def test_every_data_set_has_a_case() -> None:
    names = {path.stem for path in (ROOT / "conf" / "data").glob("*.yaml")}
    assert names - {"phantom"} == set(CASES) - {"open_i_kaggle"}


@pytest.fixture(scope="module")
def parts(pipeline_dir: Path) -> PipelineParts:
    return load_pipeline(str(pipeline_dir))


@pytest.fixture(scope="module", params=CASES)
def encoded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, parts: PipelineParts) -> Encoded:
    case, folder = CASES[request.param], tmp_path_factory.mktemp("data_set")
    samples = case.samples()
    written = case.write(folder / "data", samples)
    config = composed(*written.overrides, *case.sanitizer, *case.overrides)
    data = build_data(config, folder / "run")
    with pytest.warns(UserWarning) if case.warning else nullcontext([]) as warned:
        data.encode(parts)
    assert [str(warning.message) for warning in warned] == ([case.warning] if case.warning else [])
    return Encoded(case, samples, written, folder / "run", data)


def test_all_samples_are_there_but_the_broken_ones(encoded: Encoded) -> None:
    rows, chosen = encoded.written.rows, {p.record.row for p in (*encoded.study.canaries, *encoded.study.controls)}
    # one image of each canary and control is used, and the patient's others by nobody
    unused = {row for n, row in enumerate(rows) if row not in chosen and encoded.of_patient(n) & chosen}
    usable = set(rows) - unused - {rows[TRUNCATED], rows[MISSING]}
    counts = encoded.study.sanitizer_counts
    assert len(rows) == N_PATIENTS * 5 // 4 and len(unused) < len(chosen)
    assert counts["prompts"] == len(usable) and counts["refused"] == counts["emptied"] == 0
    assert sorted(p.record.row for p in encoded.prompted()) == sorted(usable)
    assert [len(encoded.study.canaries), len(encoded.study.controls), len(encoded.study.prompt_controls)] == [4, 12, 12]
    assert len(encoded.study.heldout) >= MIN_HELDOUT and len(encoded.data.heldout_set) == len(encoded.study.heldout)


def test_groups_share_no_patient(encoded: Encoded) -> None:
    patients = [{p.record.subject_id for p in getattr(encoded.study, group)} for group in GROUPS]
    usable = set(range(len(encoded.samples))) - {TRUNCATED, MISSING}
    whole = len({frozenset(encoded.of_patient(number)) for number in usable})
    assert sum(map(len, patients)) == len(set().union(*patients)) == whole


def test_images_and_reports_belong_together(encoded: Encoded) -> None:
    """Each sample's own pixels came with its own text, whatever the layout."""
    number_of = {row: number for number, row in enumerate(encoded.written.rows)}
    for sample in encoded.prompted():
        origin = encoded.samples[number_of[sample.record.row]]
        off = abs(sample.pixels.astype(int) - origin.pixels).mean()
        assert off < (4 if "jpg" in sample.record.image_path else 0.01), "JPEG loses a little"
        if encoded.case.write not in (nih.write, padchest.write):
            assert origin.impression.split(".")[0] in sample.record.prompt and origin.impression.split(".")[0] in sample.sanitized


def test_no_marker_reaches_the_training(encoded: Encoded) -> None:
    originals = [p.record.prompt for p in encoded.prompted()]
    assert all(any(marker in prompt for prompt in originals) for marker in encoded.case.markers)
    trained = [*encoded.data.train_set.prompts, *encoded.data.heldout_set.prompts]
    assert not any(marker in prompt for prompt in trained for marker in encoded.case.markers)
    assert encoded.data.count_markers() == 0 and encoded.study.sanitizer_counts["residual_markers"] == 0
    assert (encoded.study.sanitizer_counts["edited"] > 0) == bool(encoded.case.markers)


def test_records_are_the_same_wherever_they_are_kept(encoded: Encoded, tmp_path: Path) -> None:
    reader = encoded.data.reader
    with pytest.warns(UserWarning, match=encoded.case.warning) if encoded.case.warning else nullcontext():
        (in_memory, bad), (in_a_file, bad_again) = reader.read(), reader.read(Spools(tmp_path))
    assert isinstance(in_a_file, Spool) and list(in_a_file) == in_memory
    assert bad_again == bad and bad


def test_a_batch_has_the_shapes_of_the_model(encoded: Encoded) -> None:
    batch = next(iter(encoded.data.train_dataloader()))
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "latents": (BATCH, 4, SIDE // 8, SIDE // 8),
        "encoder_hidden_states": (BATCH, 77, 16),
        "sample_ids": (BATCH,),
        "draws": (BATCH,),
        "captions": (BATCH,),
        "patient_ids": (BATCH,),
    }
    assert all(bool(value.isfinite().all()) for value in batch.values())


def test_planted_duplicates_are_found_and_nothing_else(encoded: Encoded) -> None:
    trained = {p.record.subject_id for p in encoded.study.members}

    def across_splits(pair: tuple[int, int]) -> int:
        first, second = (encoded.subject_of(number) in trained for number in pair)
        return int(first != second)

    found = encoded.study.duplicates
    for kind, pair in (("exact_images", SAME_IMAGE), ("exact_prompts", SAME_REPORT)):
        counts = [found[f"{kind}_{what}"] for what in ("groups", "samples", "pairs_across_patients", "pairs_across_splits")]
        assert counts == [1, 2, 1, across_splits(pair)], kind
    assert found["near_images_groups"] == found["unchecked_image_pairs"] == 0


def test_broken_rows_are_named_by_number(encoded: Encoded) -> None:
    with (encoded.run_dir / "quarantine.csv").open(newline="") as file:
        rows = {int(row["row"]): row["reason"] for row in csv.DictReader(file)}
    assert set(rows) == {encoded.written.rows[TRUNCATED], encoded.written.rows[MISSING]} and encoded.study.n_quarantined == 2
    assert "truncated" in rows[encoded.written.rows[TRUNCATED]]
    missing = "no .png" if encoded.case.write is own.write_webdataset else "missing"
    assert missing in rows[encoded.written.rows[MISSING]]


# --- as a user would


SHARED = "zsharedqz"  # a word of every patient's report, though of none of the project's lists: a doctor's name, say
REPORT_TEXT = ["evidence/prompts.json", "report.html"]  # where a run may show it, if it is asked to


def own_word(report: str) -> str:
    """A word that only this report has."""
    return "z" + hashlib.sha256(report.encode()).hexdigest().translate(str.maketrans("0123456789", "ghijklmnop"))[:9]


def with_sentinels(samples: list[Sample]) -> list[Sample]:
    """In every report a word of its own and one that all share."""
    return [replace(s, impression=f"Seen by {own_word(s.impression)} and {SHARED}. {s.impression}") for s in samples]


@dataclass(frozen=True)
class Finished:
    """A run of ``train.py`` on one of the miniatures; ``shows`` where report text may stand."""

    case: Case
    samples: list[Sample]
    config: DictConfig
    out: Path
    result: Any
    shows: list[str]


@pytest.fixture(scope="module", params=["mimic_cxr_jpg", "open_i"])
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, train_in: Callable[..., Any], pipeline_dir: Path
) -> Iterator[Finished]:
    case, folder = CASES[request.param], tmp_path_factory.mktemp("run")
    samples, asked = with_sentinels(case.samples()), request.param == "open_i"
    written = case.write(folder / "data", samples)
    overrides = [*written.overrides, *case.sanitizer, "logger=wandb", "report.min_patients=5", f"report.show_prompts={asked}"]
    model = ["model=pipeline", f"model.source={pipeline_dir}", "trainer.max_steps=3"]
    result = train_in(folder, *model, *overrides, f"hydra.run.dir={folder / 'out'}")
    shows = REPORT_TEXT if asked else []
    yield Finished(case, samples, composed(*written.overrides, *case.sanitizer), folder / "out", result, shows)


def secrets_of(finished: Finished) -> set[bytes]:
    """Texts, ids and file names of the data set: what was trained on, and the parts of the reports that were not."""
    config = finished.config
    records = instantiate(config.data.reader).read()[0]
    unused = {sentence for s in finished.samples for sentence in s.findings.split(". ")} | {"cough that she has had", "Sentinel cough"}
    names = {Path(record.image_path).stem for record in records}
    texts = protected(records, instantiate(config.canaries), config.data.heldout_fraction)
    sentinels = {s.impression.split()[2] for s in finished.samples} | {SHARED}
    assert len(sentinels) > N_PATIENTS
    return texts | {text.encode() for text in unused | names | sentinels}


def test_a_run_on_the_data_set_ends_well(finished: Finished) -> None:
    assert finished.result.returncode == 0, finished.result.stdout + finished.result.stderr
    assert "Traceback" not in finished.result.stderr and "Warning" not in finished.result.stderr
    assert json.loads((finished.out / "status.json").read_text())["status"] == "done"
    audit = read_audit(finished.out / "audit.json")
    assert audit["steps"] == 3 and audit["sanitizer"]["residual_markers"] == 0 and audit["sanitizer"]["edited"] > 0
    data = audit["run"]["data"]
    assert data["quarantined"] == 2 and data["duplicates"]["exact_images_groups"] == data["duplicates"]["exact_prompts_groups"] == 1


def test_a_run_on_the_data_set_leaks_nothing(finished: Finished) -> None:
    secrets = secrets_of(finished)
    assert len(secrets) > 2 * N_PATIENTS
    assert list(finished.out.glob("wandb/offline-run-*/*.wandb"))
    assert leaks(finished.out, secrets, finished.result.stdout, finished.result.stderr) == finished.shows
    assert (finished.out / "evidence/prompts.json").exists() == bool(finished.shows)


def test_words_and_the_marker_are_looked_at(finished: Finished) -> None:
    audit = read_audit(finished.out / "audit.json")
    shown = {row["word"] for row in audit["words"]["top"] if row["marker"]}
    assert shown and shown <= {"___", *finished.case.markers}
    assert audit["words"]["unknown"] >= 1, "the word that all share is not shown"
    assert all(row["patients"] >= 5 for row in audit["words"]["top"])
    assert audit["marker_test"]["groups"]["controls"]["n_prompts"] >= 5
    assert f"{audit['words']['top'][0]['patients']}</data>" in (finished.out / "report.html").read_text()
