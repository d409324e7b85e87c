"""The datamodule: encodes a prepared study once and serves batches of cached latents and hidden states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from cxrguard.data.batches import Batch, CachedSamples, EpochSampler, GatedCollate, PoissonBatches, ResumableLoader
from cxrguard.data.cache import open_cache
from cxrguard.data.captions import CaptionVariants, share_changed
from cxrguard.data.duplicates import find_duplicates
from cxrguard.data.encoded import CachedEncoder
from cxrguard.data.lazy import Mapped
from cxrguard.data.prepare import CanarySettings, PromptedRecord, Study, check_study, plan, read_usable, sanitize_plan
from cxrguard.data.recaption import Recaption
from cxrguard.data.records import Reader, ReportRecord
from cxrguard.data.repeats import RepeatLimit
from cxrguard.data.spool import Spools
from cxrguard.diffusion.loading import PipelineParts
from cxrguard.errors import BadInputError, CxrguardError
from cxrguard.pseudonym import secret_seed
from cxrguard.sanitizer.pipeline import TextSanitizer
from cxrguard.sanitizer.sanitizer import PromptSanitizer
from cxrguard.sanitizer.settings import SanitizerSettings


class ReportDataModule(pl.LightningDataModule):
    """Images and report prompts with planted canaries.

    Args:
        reader: reads the data set.
        sanitizer: runs over all prompts before anything is batched.
        canaries: the planted ground truth.
        batch_size: samples a step.
        image_size: pixels a side.
        heldout_fraction: share of patients kept out of training; canaries and controls come from these.
        max_bad_fraction: most of the samples that may be unusable.
        seed: of splits, canaries and order.
        out_dir: where ``quarantine.csv`` goes.
        window: how images of more than 8 bits become grey; see :mod:`cxrguard.data.window`.
        cache_dir: where images, latents and hidden states are kept, see :mod:`cxrguard.data.cache`; None keeps them in files that
            are gone with the last use.
        input_ids: batches hold token ids, for a text encoder that is trained.
        count_duplicates: look for exact and near duplicates of images and of reports, and say how many there are.
        repeats: most showings an epoch of samples that are alike; None leaves them as they are.
        captions: several captions a training sample; None has the one.
        recaption: captions made of labels; None trains on the reports.
        private: batches are drawn as private training needs them.

    """

    def __init__(
        self,
        reader: Reader,
        sanitizer: PromptSanitizer,
        canaries: CanarySettings,
        *,
        batch_size: int = 16,
        image_size: int = 64,
        heldout_fraction: float = 0.3,
        max_bad_fraction: float = 0.01,
        seed: int = 0,
        out_dir: Path = Path(),
        window: Sequence[float] | str | None = None,
        cache_dir: Path | None = None,
        count_duplicates: bool = False,
        input_ids: bool = False,
        repeats: RepeatLimit | None = None,
        captions: CaptionVariants | None = None,
        recaption: Recaption | None = None,
        private: bool = False,
    ) -> None:
        super().__init__()
        self.reader, self.sanitizer, self.canaries = reader, sanitizer, canaries
        self.batch_size, self.image_size, self.heldout_fraction = batch_size, image_size, heldout_fraction
        self.max_bad_fraction, self.seed, self.out_dir, self.window = max_bad_fraction, seed, out_dir, window
        self.cache_dir, self.count_duplicates, self.input_ids = cache_dir, count_duplicates, input_ids
        self.repeats, self.captions = repeats or RepeatLimit(), captions or CaptionVariants()
        self.recaption, self.private = recaption or Recaption(), private
        self.actions: list[dict[str, Any]] = []

    def encode(self, parts: PipelineParts) -> Study:
        """Read, split, plant, sanitize and encode; must be called once before fitting.

        Raises:
            BadInputError: the data cannot be used, or there are fewer samples than a batch.
            CxrguardError: the cache cannot be used.

        """
        self.study, self.actions = self.recaption.apply(self._prepare())
        self.tokenizer = parts.tokenizer if self.input_ids else None
        check_study(self.study, parts.tokenizer)
        showings = self._limited()
        with open_cache(self.cache_dir) as cache:
            encoder = CachedEncoder(parts, cache)
            self.train_set = self._captioned(encoder, showings)
            self.heldout_set = _encoded(encoder, self.study.heldout or self.study.controls, None)
            self.steering_set = _encoded(encoder, self.study.steering, None) if self.study.steering else None
        if len(self.train_set) < self.batch_size:
            raise BadInputError(f"{len(self.train_set)} training samples are fewer than data.batch_size={self.batch_size}; lower it")
        return self.study

    def _prepare(self) -> Study:
        """All but the encoding. Records and reports lie in files after it, and the sanitizer knows nothing of them."""
        keep = Spools(self.cache_dir)
        records, pixels, n_bad = read_usable(
            self.reader, self.image_size, self.max_bad_fraction, self.out_dir, self.window, self.cache_dir, keep
        )
        planned = plan(records, self.heldout_fraction, self.canaries, self.seed, keep)
        duplicates = _duplicates(records, pixels, {r.subject_id for r in planned.members}) if self.count_duplicates else {}
        study = sanitize_plan(planned, pixels, self.sanitizer, n_bad, self.seed, keep)
        return replace(study, cache_dir=self.cache_dir, duplicates=duplicates)

    def _captioned(self, encoder: CachedEncoder, showings: list[int]) -> CachedSamples:
        """The training samples with all their captions; that there are several is written down as an action."""
        prompts, c = Mapped(self.study.trained, attrgetter("sanitized")), self.captions
        captions = c.of(prompts, self.seed)
        if c.variants > 1:
            changed = round(share_changed(prompts, captions, c.variants), 4)
            self.actions.append({"step": 0, "action": "vary_captions", "variants": c.variants, "share_changed": changed})
        latents = encoder.latents(Mapped(self.study.trained, attrgetter("pixels")))
        patients = Mapped(self.study.trained, attrgetter("record.subject_id"))
        return CachedSamples(latents, encoder.states(captions), captions, showings, c.variants, self.seed, patients)

    def _limited(self) -> list[int]:
        """Showings an epoch under the repeat limit; what it takes away is written down as an action."""
        before, after = self.study.showings, self.repeats.showings(self.study)
        if self.repeats.acts:
            taken = {"samples_left_out": after.count(0), "showings_left_out": sum(before) - sum(after), "of_showings": sum(before)}
            self.actions.append({"step": 0, "action": "limit_repeats", "most": self.repeats.most, **taken})
        return after

    def count_markers(self) -> int:
        """De-identification markers in the prompts that are trained on, sanitizer on or off.

        Of every convention, asked for or not; of the opt-in ones (dates and names, which may be ordinary text) where asked for.
        """
        core = TextSanitizer(SanitizerSettings(("auto", *self.sanitizer.conventions)))
        return sum(core.residual(prompt) for prompt in self.train_set.prompts)

    def train_dataloader(self, rank: int = 0, world_size: int = 1) -> DataLoader[Batch]:
        """Members once, canaries as often as they are repeated, in a seeded order; this process's share of them."""
        collate = GatedCollate(self.train_set, self.sanitizer, self.tokenizer)
        if self.private:
            batches = PoissonBatches(self.train_set, self.batch_size, secret_seed("dp-batches", self.seed))
            return ResumableLoader(self.train_set, batch_sampler=batches, collate_fn=collate)
        sampler = EpochSampler(len(self.train_set), self.seed, rank, world_size, self.train_set)
        return ResumableLoader(self.train_set, self.batch_size, sampler=sampler, drop_last=True, collate_fn=collate)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Held-out samples that are neither canaries nor controls (controls only where nothing else is held out)."""
        return DataLoader(self.heldout_set, self.batch_size, collate_fn=GatedCollate(self.heldout_set, self.sanitizer, self.tokenizer))

    def steering_dataloader(self) -> DataLoader[Batch]:
        """The held-out samples that a guard sets its thresholds with.

        Raises:
            CxrguardError: none were set aside.

        """
        if self.steering_set is None:
            raise CxrguardError("the guard's mitigations need held-out samples to set their thresholds with; set canaries.n_steering=64")
        return DataLoader(self.steering_set, self.batch_size, collate_fn=GatedCollate(self.steering_set, self.sanitizer, self.tokenizer))


def _duplicates(records: Sequence[ReportRecord], pixels: Mapping[str, np.ndarray], trained: set[str]) -> dict[str, int]:
    """Counts among the reports as they were read: the planted leads and tails would make all prompts near ones."""
    splits = ["train" if r.subject_id in trained else "heldout" for r in records]
    images = Mapped(records, lambda record: pixels[record.dicom_id])
    found = find_duplicates(images, Mapped(records, attrgetter("prompt")), [r.subject_id for r in records], splits)
    print(found, flush=True)
    return found.summary()


def _encoded(encoder: CachedEncoder, samples: Sequence[PromptedRecord], repeats: list[int] | None) -> CachedSamples:
    if not samples:
        raise BadInputError("no held-out sample is left; raise data.heldout_fraction or use more data")
    prompts = Mapped(samples, attrgetter("sanitized"))
    latents = encoder.latents(Mapped(samples, attrgetter("pixels")))
    patients = Mapped(samples, attrgetter("record.subject_id"))
    return CachedSamples(latents, encoder.states(prompts), prompts, repeats or [1] * len(samples), patients=patients)
