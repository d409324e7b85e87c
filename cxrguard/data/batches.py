"""Batches of encoded samples: which sample comes when, with which caption, and the gate that each passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cxrguard.data.captions import choose_caption
from cxrguard.diffusion.encoding import tokenize
from cxrguard.randomness import torch_generator
from cxrguard.rows import Rows
from cxrguard.sanitizer.sanitizer import PromptSanitizer

Batch = dict[str, Tensor]


class CachedSamples(Dataset[Batch]):
    """Encoded samples; ``order [M, 2]`` lists (sample, draw), so that a repeated canary has a draw of its own each time.

    Args:
        latents: ``[N, C, h, w]``; read when a sample is asked for.
        encoder_hidden_states: ``[N, L, D]``; likewise.
        prompts: what the hidden states were made from, for the gate at collate.
        repeats: showings of each sample an epoch.
        captions: captions a sample, C; then there are C · N hidden states and prompts, those of a sample one after the other.
        seed: of which caption a showing has.
        patients: whose each sample is, by any name; the batches have numbers that a patient's samples share. None: they have none.

    """

    def __init__(
        self,
        latents: Rows,
        encoder_hidden_states: Rows,
        prompts: Sequence[str],
        repeats: Sequence[int],
        captions: int = 1,
        seed: int = 0,
        patients: Sequence[str] | None = None,
    ) -> None:
        self.latents, self.states, self.prompts = latents, encoder_hidden_states, prompts
        self.captions, self.seed, self.epoch = captions, seed, 0
        times = np.asarray(repeats, np.int64)
        first = np.repeat(np.cumsum(times) - times, times)
        self.order = np.stack([np.repeat(np.arange(len(times)), times), np.arange(len(first)) - first], axis=1)
        self.most = int(times.max(initial=1))
        self.patients = None if patients is None else _numbered(patients)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Batch:
        """The showing ``index``; beyond their number the same ones with draws of their own, once more each lap."""
        lap, showing = divmod(index, len(self.order))
        sample, draw = self.order[showing].tolist()
        draw += lap * self.most
        caption = sample * self.captions + choose_caption(self.captions, self.seed, self.epoch, sample, draw)
        found = {
            "latents": self.latents[sample],
            "encoder_hidden_states": self.states[caption],
            "captions": torch.tensor(caption),
            "sample_ids": torch.tensor(sample),
            "draws": torch.tensor(draw),
        }
        return found if self.patients is None else found | {"patient_ids": torch.tensor(self.patients[sample])}


def _numbered(names: Sequence[str]) -> NDArray[np.int64]:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


class GatedCollate:
    """Stacks samples after the residual-marker gate: a marker that reaches a batch is an error, not a warning.

    With a ``tokenizer`` the batch holds ``input_ids [B, L]`` too, for a text encoder that is trained.
    """

    def __init__(self, dataset: CachedSamples, sanitizer: PromptSanitizer, tokenizer: Any = None) -> None:
        self.dataset, self.sanitizer, self.tokenizer = dataset, sanitizer, tokenizer

    def __call__(self, samples: list[Batch]) -> Batch:
        """Stack the samples; a batch of none is one of any sample with weight 0.

        Raises:
            ResidualMarkerError: a prompt of the batch still holds a marker although the sanitizer is on.

        """
        if not samples:
            return self([self.dataset[0]]) | {"weights": torch.zeros(1)}
        prompts = [self.dataset.prompts[int(s["captions"])] for s in samples]
        self.sanitizer.gate(prompts)
        batch = {name: torch.stack([s[name] for s in samples]) for name in samples[0]}
        return batch | {"input_ids": tokenize(self.tokenizer, prompts)} if self.tokenizer else batch


class EpochSampler(Sampler[int]):
    """A permutation of the samples as a function of (seed, epoch).

    Several processes take turns: together their batches are those of one process with a batch as large as all of theirs. ``samples``
    are told of each epoch: it decides on their captions.
    """

    def __init__(self, n: int, seed: int, rank: int = 0, world_size: int = 1, samples: CachedSamples | None = None) -> None:
        self.n, self.seed, self.epoch = n, seed, 0
        self.rank, self.world_size, self.samples = rank, world_size, samples

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch
        if self.samples is not None:
            self.samples.epoch = epoch

    def __len__(self) -> int:
        return self.n // self.world_size

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self.n, generator=torch_generator("order", self.seed, self.epoch)).tolist()
        return iter(order[self.rank :: self.world_size][: len(self)])


class PoissonBatches(Sampler[list[int]]):
    """Each step draws each showing with the same probability and by itself: what the account of private training rests on.

    Batches differ in size; ``batch_size`` is the mean, and an epoch has as many steps as one of whole batches.

    Args:
        samples: what is drawn from.
        batch_size: see above.
        secret: seeds the draws; who was drawn must stay unknown for ε to hold.

    """

    def __init__(self, samples: CachedSamples, batch_size: int, secret: int) -> None:
        self.samples, self.secret, self.epoch = samples, secret, 0
        self.rate = batch_size / len(samples)
        self._steps = len(samples) // batch_size
        self.sampler = self  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        """See :meth:`EpochSampler.set_epoch`."""
        self.epoch = self.samples.epoch = epoch

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[int]]:
        n = len(self.samples)
        for step in range(self._steps):
            drawn = torch.rand(n, generator=torch_generator("poisson", self.secret, self.epoch, step)) < self.rate
            yield (drawn.nonzero().flatten() + step * n).tolist()


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
