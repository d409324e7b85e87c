"""What is batched: gated, in a seeded order, canaries as often as they repeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cxrguard.audit.groups import build_judged
from cxrguard.data.batches import CachedSamples, EpochSampler, GatedCollate, ResumableLoader
from cxrguard.data.datamodule import ReportDataModule
from cxrguard.data.encoded import to_pixel_values
from cxrguard.data.lazy import Keep
from cxrguard.data.phantom import PhantomReader
from cxrguard.data.prepare import CanarySettings
from cxrguard.data.records import Quarantined, ReportRecord
from cxrguard.diffusion.encoding import encode_images, encode_prompts, tokenize
from cxrguard.diffusion.loading import PipelineParts, load_pipeline
from cxrguard.errors import BadInputError, ResidualMarkerError
from cxrguard.sanitizer.sanitizer import PromptSanitizer

CANARIES = CanarySettings(n=3, repeats=(1, 2, 5), n_controls=6)


@pytest.fixture(scope="module")
def parts(pipeline_dir: Path) -> PipelineParts:
    return load_pipeline(str(pipeline_dir))


@pytest.fixture(scope="module")
def sanitizer() -> PromptSanitizer:
    return PromptSanitizer(["mimic_cxr"], "repair")


def data_of(sanitizer: PromptSanitizer, canaries: CanarySettings = CANARIES, n_patients: int = 80, **settings: Any) -> ReportDataModule:
    return ReportDataModule(PhantomReader(n_patients=n_patients, max_studies=1), sanitizer, canaries, **({"batch_size": 4} | settings))


@pytest.fixture(scope="module")
def data(parts: PipelineParts, sanitizer: PromptSanitizer) -> ReportDataModule:
    module = data_of(sanitizer)
    module.encode(parts)
    return module


def served(data: ReportDataModule, epoch: int) -> list[tuple[int, int]]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [pair for batch in loader for pair in zip(batch["sample_ids"].tolist(), batch["draws"].tolist(), strict=True)]


def test_pixel_values() -> None:
    pixels = to_pixel_values([np.array([[0, 255], [51, 128]], np.uint8)] * 2)
    assert pixels.shape == (2, 1, 2, 2) and pixels.dtype == torch.float32
    assert pixels[1, 0].flatten().tolist() == pytest.approx([-1, 1, -0.6, 128 / 127.5 - 1], abs=1e-6)


def test_canaries_appear_as_often_as_they_repeat_with_a_draw_of_their_own(data: ReportDataModule) -> None:
    n = len(data.study.members)
    pairs = [(int(s["sample_ids"]), int(s["draws"])) for s in (data.train_set[i] for i in range(len(data.train_set)))]
    assert len(set(pairs)) == len(pairs) == n + 8
    times = Counter(sample for sample, _ in pairs)
    assert times == Counter(dict.fromkeys(range(n), 1) | {n: 1, n + 1: 2, n + 2: 5})
    for canary, repeats in zip(range(n, n + 3), (1, 2, 5), strict=True):
        assert sorted(draw for sample, draw in pairs if sample == canary) == list(range(repeats))
    for epoch in range(2):  # the last incomplete batch is left out, nothing else
        shown = served(data, epoch)
        assert len(set(shown)) == len(shown) == len(pairs) // 4 * 4 and set(shown) <= set(pairs)


def test_order_is_a_function_of_seed_and_epoch(data: ReportDataModule) -> None:
    torch.manual_seed(0)
    first = served(data, 0)
    torch.manual_seed(1)
    assert served(data, 0) == first != served(data, 1)
    orders = {tuple(EpochSampler(50, seed)) for seed in (0, 1)}
    sampler = EpochSampler(50, 0)
    sampler.set_epoch(1)
    orders.add(tuple(sampler))
    assert len(orders) == 3 and all(sorted(o) == list(range(50)) for o in orders) and len(sampler) == 50
    assert list(EpochSampler(50, 0)) != list(range(50))


def test_batches_hold_what_the_encoders_say(data: ReportDataModule, parts: PipelineParts) -> None:
    batch = next(iter(data.train_dataloader()))
    assert {k: tuple(v.shape) for k, v in batch.items()} == {
        "latents": (4, 4, 8, 8),
        "encoder_hidden_states": (4, 77, 16),
        "sample_ids": (4,),
        "draws": (4,),
        "captions": (4,),
        "patient_ids": (4,),
    }
    train = [*data.study.members, *data.study.canaries]
    for i, sample_id in enumerate(batch["sample_ids"].tolist()):
        sample = train[sample_id]
        pixels = to_pixel_values([sample.pixels]).expand(-1, 3, -1, -1)
        assert torch.allclose(batch["latents"][i : i + 1], encode_images(parts, pixels), atol=1e-4)
        assert torch.allclose(batch["encoder_hidden_states"][i : i + 1], encode_prompts(parts, [sample.sanitized]), atol=1e-4)


def test_the_samples_of_a_patient_share_a_number(data: ReportDataModule) -> None:
    trained = [*data.study.members, *data.study.canaries]
    numbers = [int(data.train_set[i]["patient_ids"]) for i in range(len(data.train_set))]
    shown = [trained[int(data.train_set[i]["sample_ids"])].record.subject_id for i in range(len(data.train_set))]
    assert len(set(zip(numbers, shown, strict=True))) == len(set(numbers)) == len(set(shown))


def test_groups_are_disjoint_by_patient_and_held_out_batches_hold_neither_canaries_nor_controls(data: ReportDataModule) -> None:
    groups = [data.study.members, data.study.canaries, data.study.controls, data.study.heldout]
    patients = [{p.record.subject_id for p in group} for group in groups]
    assert sum(map(len, patients)) == len(set().union(*patients)) == 80
    assert data.heldout_set.prompts == [p.sanitized for p in data.study.heldout]
    shown = [i for batch in data.val_dataloader() for i in batch["sample_ids"].tolist()]
    assert shown == list(range(len(data.study.heldout)))


def test_ids_are_there_for_a_text_encoder_in_training(parts: PipelineParts, sanitizer: PromptSanitizer) -> None:
    prompts = ["Clear.", "Edema."]
    samples = CachedSamples(torch.zeros(2, 1, 2, 2), torch.zeros(2, 4, 2), prompts, [1, 1])
    batch = GatedCollate(samples, sanitizer, parts.tokenizer)([samples[1], samples[0]])
    assert torch.equal(batch["input_ids"], tokenize(parts.tokenizer, ["Edema.", "Clear."]))


def test_a_marker_that_reaches_a_batch_is_an_error_that_names_no_text(sanitizer: PromptSanitizer) -> None:
    prompts = ["Clear.", "Seen by ___ yesterday, unmistakable.", "Edema."]
    samples = CachedSamples(torch.zeros(3, 1, 2, 2), torch.zeros(3, 4, 2), prompts, [1, 1, 1])
    collate = GatedCollate(samples, sanitizer)
    assert collate([samples[0], samples[2]])["sample_ids"].tolist() == [0, 2]
    with pytest.raises(ResidualMarkerError, match=r"1 de-identification marker.*positions 1") as caught:
        collate([samples[2], samples[1]])
    assert not any(word in str(caught.value) for word in ("___", "Seen", "unmistakable", "Edema"))
    off = GatedCollate(samples, PromptSanitizer(["mimic_cxr"], "off"))
    assert off([samples[1]])["sample_ids"].tolist() == [1]


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader"])
def test_both_loaders_are_gated(parts: PipelineParts, sanitizer: PromptSanitizer, loader: str) -> None:
    data = data_of(sanitizer, n_patients=60)
    data.encode(parts)
    for samples in (data.train_set, data.heldout_set):
        samples.prompts = ["Compared to ___."] * len(samples.prompts)
    with pytest.raises(ResidualMarkerError):
        list(getattr(data, loader)())
    assert data.count_markers() == len(data.train_set.prompts)


def test_markers_are_counted_with_the_sanitizer_on_and_off(data: ReportDataModule, parts: PipelineParts) -> None:
    assert data.count_markers() == 0
    off = data_of(PromptSanitizer(["mimic_cxr"], "off"), n_patients=60)
    off.encode(parts)
    assert off.count_markers() >= len(off.train_set.prompts)
    assert len(list(off.train_dataloader())) > 0


class PartlyBroken:
    """Five quarantined rows beside the phantoms, one image that is not there."""

    def read(self, keep: Keep = list) -> tuple[Sequence[ReportRecord], list[Quarantined]]:
        records, _ = PhantomReader(n_patients=80, max_studies=1).read()
        return keep([*records, ReportRecord("x", "x", "x", "x", image_path="/nowhere.png", row=86)]), [
            Quarantined(i, "empty prompt") for i in range(81, 86)
        ]


def test_quarantine_is_counted(parts: PipelineParts, sanitizer: PromptSanitizer, tmp_path: Path) -> None:
    data = data_of(sanitizer, max_bad_fraction=0.1, out_dir=tmp_path)
    data.reader = PartlyBroken()
    assert data.encode(parts).n_quarantined == 6
    assert len((tmp_path / "quarantine.csv").read_text().splitlines()) == 7
    data.max_bad_fraction = 0.01
    with pytest.raises(BadInputError, match="6 of 86"):
        data.encode(parts)


def test_too_little_data_says_what_to_change(parts: PipelineParts, sanitizer: PromptSanitizer) -> None:
    with pytest.raises(BadInputError, match=r"fewer than data\.batch_size=500"):
        data_of(sanitizer, n_patients=60, batch_size=500).encode(parts)
    with pytest.raises(BadInputError, match=r"data\.heldout_fraction"):
        data_of(sanitizer, CanarySettings(n=0), n_patients=8, heldout_fraction=0.0).encode(parts)


def test_a_loader_goes_on_where_it_was(data: ReportDataModule) -> None:
    def ids(loader: ResumableLoader) -> list[list[int]]:
        return [batch["sample_ids"].tolist() for batch in loader]

    whole = ids(data.train_dataloader())  # type: ignore[arg-type]
    for place in range(len(whole)):
        loader, resumed = data.train_dataloader(), data.train_dataloader()
        assert isinstance(loader, ResumableLoader) and isinstance(resumed, ResumableLoader)
        iterator = iter(loader)
        for _ in range(place):
            next(iterator)
        resumed.load_state_dict(loader.state_dict())
        assert ids(resumed) == whole[place:] and ids(resumed) == whole  # and the next epoch is a whole one
        assert resumed.state_dict() == {"batches": 0}


def test_a_second_run_with_the_same_cache_reads_and_encodes_nothing(
    parts: PipelineParts, sanitizer: PromptSanitizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = []
    for i, record in enumerate(PhantomReader(n_patients=80, max_studies=1).read()[0]):
        assert record.pixels is not None
        Image.fromarray(record.pixels).save(tmp_path / f"{i}.png")
        records.append(replace(record, pixels=None, image_path=str(tmp_path / f"{i}.png")))
    in_memory = data_of(sanitizer)
    in_memory.encode(parts)
    for attempt in range(2):
        data = data_of(sanitizer, cache_dir=tmp_path / "cache")
        data.reader = SimpleNamespace(read=lambda keep: (keep(records), []))
        study = data.encode(parts)
        assert study.cache_dir == tmp_path / "cache"
        for one, other in ((data.train_set, in_memory.train_set), (data.heldout_set, in_memory.heldout_set)):
            assert torch.equal(one.latents[:], other.latents[:]) and torch.equal(one.states[:], other.states[:])
        pixels = study.members[0].pixels
        assert not pixels.flags.writeable and not pixels.flags.owndata
        assert np.array_equal(pixels, in_memory.study.members[0].pixels)
        build_judged(parts, study, 2, 0)  # its references are in the cache from now on, too
        if attempt == 0:
            for name in ("encoded.encode_images", "encoded.encode_prompts", "prepare.load_pixels"):
                monkeypatch.setattr(f"cxrguard.data.{name}", lambda *_, **__: pytest.fail("made again"))
