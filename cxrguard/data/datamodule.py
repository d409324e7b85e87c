"""The datamodule: encodes a prepared study once and serves batches of cached latents and hidden states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cxrguard.data.prepare import CanarySettings, PromptedRecord, Study, check_study, plan, read_usable, sanitize_plan
from cxrguard.data.records import Reader
from cxrguard.diffusion.encoding import encode_images, encode_prompts
from cxrguard.diffusion.loading import PipelineParts
from cxrguard.errors import BadInputError
from cxrguard.randomness import torch_generator
from cxrguard.sanitizer.pipeline import TextSanitizer
from cxrguard.sanitizer.sanitizer import PromptSanitizer
from cxrguard.sanitizer.settings import SanitizerSettings

Batch = dict[str, Tensor]


def to_pixel_values(pixels: Sequence[np.ndarray]) -> Tensor:
    """uint8 ``[H, W]`` images as float ``[N, 1, H, W]`` in [-1, 1]."""
    return torch.from_numpy(np.stack(list(pixels))).float()[:, None] / 127.5 - 1


class CachedSamples(Dataset[Batch]):
    """Encoded samples; ``order`` lists (sample, draw), so that a repeated canary has a draw of its own each time.

    Args:
        latents: ``[N, C, h, w]``.
        encoder_hidden_states: ``[N, L, D]``.
        prompts: what the hidden states were made from, for the gate at collate.
        repeats: showings of each sample an epoch.

    """

    def __init__(self, latents: Tensor, encoder_hidden_states: Tensor, prompts: Sequence[str], repeats: Sequence[int]) -> None:
        self.latents, self.states, self.prompts = latents, encoder_hidden_states, list(prompts)
        self.order = [(i, draw) for i, n in enumerate(repeats) for draw in range(n)]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Batch:
        sample, draw = self.order[index]
        return {
            "latents": self.latents[sample],
            "encoder_hidden_states": self.states[sample],
            "sample_ids": torch.tensor(sample),
            "draws": torch.tensor(draw),
        }


class GatedCollate:
    """Stacks samples after the residual-marker gate: a marker that reaches a batch is an error, not a warning."""

    def __init__(self, dataset: CachedSamples, sanitizer: PromptSanitizer) -> None:
        self.dataset, self.sanitizer = dataset, sanitizer

    def __call__(self, samples: list[Batch]) -> Batch:
        """Stack the samples.

        Raises:
            ResidualMarkerError: a prompt of the batch still holds a marker although the sanitizer is on.

        """
        self.sanitizer.gate([self.dataset.prompts[int(s["sample_ids"])] for s in samples])
        return {name: torch.stack([s[name] for s in samples]) for name in samples[0]}


class EpochSampler(Sampler[int]):
    """A permutation of the samples as a function of (seed, epoch)."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(self.n, generator=torch_generator("order", self.seed, self.epoch)).tolist())


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
    ) -> None:
        super().__init__()
        self.reader, self.sanitizer, self.canaries = reader, sanitizer, canaries
        self.batch_size, self.image_size, self.heldout_fraction = batch_size, image_size, heldout_fraction
        self.max_bad_fraction, self.seed, self.out_dir = max_bad_fraction, seed, out_dir

    def encode(self, parts: PipelineParts) -> Study:
        """Read, split, plant, sanitize and encode; must be called once before fitting.

        Raises:
            BadInputError: the data cannot be used, or there are fewer samples than a batch.

        """
        records, pixels, n_bad = read_usable(self.reader, self.image_size, self.max_bad_fraction, self.out_dir)
        planned = plan(records, self.heldout_fraction, self.canaries, self.seed)
        self.study = sanitize_plan(planned, pixels, self.sanitizer, n_bad)
        check_study(self.study, parts.tokenizer)
        train = [*self.study.members, *self.study.canaries]
        self.train_set = self._cache(parts, train, [1] * len(self.study.members) + list(self.study.repeats))
        self.heldout_set = self._cache(parts, self.study.heldout or self.study.controls, None)
        if len(self.train_set) < self.batch_size:
            raise BadInputError(f"{len(self.train_set)} training samples are fewer than data.batch_size={self.batch_size}; lower it")
        return self.study

    def _cache(self, parts: PipelineParts, samples: list[PromptedRecord], repeats: list[int] | None) -> CachedSamples:
        if not samples:
            raise BadInputError("no held-out sample is left; raise data.heldout_fraction or use more data")
        latents = encode_images(parts, to_pixel_values([s.pixels for s in samples]).expand(-1, 3, -1, -1)).cpu()
        prompts = [s.sanitized for s in samples]
        return CachedSamples(latents, encode_prompts(parts, prompts).cpu(), prompts, repeats or [1] * len(samples))

    def count_markers(self) -> int:
        """De-identification markers in the prompts that are trained on, sanitizer on or off.

        Of every convention, asked for or not; of the opt-in ones (dates and names, which may be ordinary text) where asked for.
        """
        core = TextSanitizer(SanitizerSettings(("auto", *self.sanitizer.conventions)))
        return sum(core.residual(prompt) for prompt in self.train_set.prompts)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Members once, canaries as often as they are repeated, in a seeded order."""
        sampler = EpochSampler(len(self.train_set), self.seed)
        collate = GatedCollate(self.train_set, self.sanitizer)
        return ResumableLoader(self.train_set, self.batch_size, sampler=sampler, drop_last=True, collate_fn=collate)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Held-out samples that are neither canaries nor controls (controls only where nothing else is held out)."""
        return DataLoader(self.heldout_set, self.batch_size, collate_fn=GatedCollate(self.heldout_set, self.sanitizer))
