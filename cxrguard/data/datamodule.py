"""The datamodule: encodes a prepared study once and serves batches of cached latents and hidden states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cxrguard.data.cache import open_cache
from cxrguard.data.duplicates import find_duplicates
from cxrguard.data.encoded import CachedEncoder
from cxrguard.data.prepare import CanarySettings, PromptedRecord, Study, check_study, plan, read_usable, sanitize_plan
from cxrguard.data.records import Reader, ReportRecord
from cxrguard.data.repeats import RepeatLimit
from cxrguard.diffusion.encoding import tokenize
from cxrguard.diffusion.loading import PipelineParts
from cxrguard.errors import BadInputError, CxrguardError
from cxrguard.randomness import torch_generator
from cxrguard.rows import Rows
from cxrguard.sanitizer.pipeline import TextSanitizer
from cxrguard.sanitizer.sanitizer import PromptSanitizer
from cxrguard.sanitizer.settings import SanitizerSettings

Batch = dict[str, Tensor]


class CachedSamples(Dataset[Batch]):
    """Encoded samples; ``order [M, 2]`` lists (sample, draw), so that a repeated canary has a draw of its own each time.

    Args:
        latents: ``[N, C, h, w]``; read when a sample is asked for.
        encoder_hidden_states: ``[N, L, D]``; likewise.
        prompts: what the hidden states were made from, for the gate at collate.
        repeats: showings of each sample an epoch.

    """

    def __init__(self, latents: Rows, encoder_hidden_states: Rows, prompts: Sequence[str], repeats: Sequence[int]) -> None:
        self.latents, self.states, self.prompts = latents, encoder_hidden_states, list(prompts)
        times = np.asarray(repeats, np.int64)
        first = np.repeat(np.cumsum(times) - times, times)
        self.order = np.stack([np.repeat(np.arange(len(times)), times), np.arange(len(first)) - first], axis=1)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Batch:
        sample, draw = self.order[index].tolist()
        return {
            "latents": self.latents[sample],
            "encoder_hidden_states": self.states[sample],
            "sample_ids": torch.tensor(sample),
            "draws": torch.tensor(draw),
        }


class GatedCollate:
    """Stacks samples after the residual-marker gate: a marker that reaches a batch is an error, not a warning.

    With a ``tokenizer`` the batch holds ``input_ids [B, L]`` too, for a text encoder that is trained.
    """

    def __init__(self, dataset: CachedSamples, sanitizer: PromptSanitizer, tokenizer: Any = None) -> None:
        self.dataset, self.sanitizer, self.tokenizer = dataset, sanitizer, tokenizer

    def __call__(self, samples: list[Batch]) -> Batch:
        """Stack the samples.

        Raises:
            ResidualMarkerError: a prompt of the batch still holds a marker although the sanitizer is on.

        """
        prompts = [self.dataset.prompts[int(s["sample_ids"])] for s in samples]
        self.sanitizer.gate(prompts)
        batch = {name: torch.stack([s[name] for s in samples]) for name in samples[0]}
        return batch | {"input_ids": tokenize(self.tokenizer, prompts)} if self.tokenizer else batch


class EpochSampler(Sampler[int]):
    """A permutation of the samples as a function of (seed, epoch).

    Several processes take turns: together their batches are those of one process with a batch as large as all of theirs.
    """

    def __init__(self, n: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.n, self.seed, self.epoch = n, seed, 0
        self.rank, self.world_size = rank, world_size

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n // self.world_size

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self.n, generator=torch_generator("order", self.seed, self.epoch)).tolist()
        return iter(order[self.rank :: self.world_size][: len(self)])


class ResumableLoader(DataLoader[Batch]):
    """A loader whose place in the epoch goes into Lightning's checkpoints.

    Lightning itself goes on with the epoch's *first* batches after a resume; a resumed run would then differ.
    """

    _done = _skip = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Batches from the place that was loaded on, once; from the start after that."""
        skip, self._skip = self._skip, 0
        for index, batch in enumerate(super().__iter__()):
            if index >= skip:
                self._done = index + 1
                yield batch

    def state_dict(self) -> dict[str, int]:
        """Batches of this epoch that were served."""
        return {"batches": self._done % max(len(self), 1)}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """See :meth:`state_dict`."""
        self._skip = state_dict["batches"]


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
    ) -> None:
        super().__init__()
        self.reader, self.sanitizer, self.canaries = reader, sanitizer, canaries
        self.batch_size, self.image_size, self.heldout_fraction = batch_size, image_size, heldout_fraction
        self.max_bad_fraction, self.seed, self.out_dir, self.window = max_bad_fraction, seed, out_dir, window
        self.cache_dir, self.count_duplicates, self.input_ids = cache_dir, count_duplicates, input_ids
        self.repeats = repeats or RepeatLimit()
        self.actions: list[dict[str, Any]] = []

    def encode(self, parts: PipelineParts) -> Study:
        """Read, split, plant, sanitize and encode; must be called once before fitting.

        Raises:
            BadInputError: the data cannot be used, or there are fewer samples than a batch.
            CxrguardError: the cache cannot be used.

        """
        self.study, self.tokenizer = self._prepare(), parts.tokenizer if self.input_ids else None
        check_study(self.study, parts.tokenizer)
        showings = self._limited()
        with open_cache(self.cache_dir) as cache:
            encoder = CachedEncoder(parts, cache)
            self.train_set = _encoded(encoder, self.study.trained, showings)
            self.heldout_set = _encoded(encoder, self.study.heldout or self.study.controls, None)
            self.steering_set = _encoded(encoder, self.study.steering, None) if self.study.steering else None
        if len(self.train_set) < self.batch_size:
            raise BadInputError(f"{len(self.train_set)} training samples are fewer than data.batch_size={self.batch_size}; lower it")
        return self.study

    def _prepare(self) -> Study:
        """All but the encoding. Reports as they were read are not in memory after it, nor what the sanitizer knows of them."""
        records, pixels, n_bad = read_usable(self.reader, self.image_size, self.max_bad_fraction, self.out_dir, self.window, self.cache_dir)
        planned = plan(records, self.heldout_fraction, self.canaries, self.seed)
        duplicates = _duplicates(records, pixels, {r.subject_id for r in planned.members}) if self.count_duplicates else {}
        study = sanitize_plan(planned, pixels, self.sanitizer, n_bad, self.seed)
        self.sanitizer.forget()
        return replace(study, cache_dir=self.cache_dir, duplicates=duplicates)

    def _limited(self) -> list[int]:
        """Showings an epoch under the repeat limit; what it takes away is written down as an action."""
        self.actions.clear()
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
        sampler = EpochSampler(len(self.train_set), self.seed, rank, world_size)
        collate = GatedCollate(self.train_set, self.sanitizer, self.tokenizer)
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
    images = [pixels[r.dicom_id] for r in records]
    found = find_duplicates(images, [r.prompt for r in records], [r.subject_id for r in records], splits)
    print(found, flush=True)
    return found.summary()


def _encoded(encoder: CachedEncoder, samples: list[PromptedRecord], repeats: list[int] | None) -> CachedSamples:
    if not samples:
        raise BadInputError("no held-out sample is left; raise data.heldout_fraction or use more data")
    prompts = [s.sanitized for s in samples]
    latents = encoder.latents([s.pixels for s in samples])
    return CachedSamples(latents, encoder.states(prompts), prompts, repeats or [1] * len(samples))
