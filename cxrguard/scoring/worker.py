"""One device's share of the prompts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from cxrguard.scoring.detectors import Detectors, Draws
from cxrguard.scoring.model import ScoringModel, fits_in_memory
from cxrguard.scoring.prompts import PromptTable
from cxrguard.scoring.work import WorkDirectory

# A part is written at whichever comes first: few files for a fast model, little lost by a kill for a slow one.
PART_PROMPTS = 1024
PART_SECONDS = 20.0
Item = TypeVar("Item")
_Scored = tuple[tuple[int, ...], np.ndarray, list[bool]]


@dataclass(frozen=True)
class Share:
    """What every process needs, whatever it does to the prompts; it is sent to it.

    Attributes:
        table: the prompts.
        n: how many different ones there are.
        model: the pipeline.
        draws: steps and seeds.
        seed: of the noise.
        batch_size: prompts at once.
        work: where the results go.
        fingerprint: the job's.

    """

    table: PromptTable
    n: int
    model: str
    draws: Draws
    seed: int
    batch_size: int
    work: Path
    fingerprint: str

    def batches(self, done: np.ndarray, rank: int, world: int) -> Iterator[list[tuple[int, str]]]:
        """What is left for process ``rank`` of ``world``; see :func:`shares`."""
        return shares(self.table, done, self.batch_size, rank, world)


@dataclass(frozen=True)
class ScoreJob:
    """What a process scores, and how.

    Attributes:
        share: the prompts and the model.
        base: the pipeline that it started from, or "".
        names: the detectors.

    """

    share: Share
    base: str
    names: tuple[str, ...]


def score_share(job: ScoreJob, device: str, rank: int = 0, world: int = 1, on_done: Callable[[int], None] | None = None) -> None:
    """Scores what is left of the share of process ``rank`` of ``world``, and writes it part by part.

    Args:
        job: what to score.
        device: on which device.
        rank: which share.
        world: how many shares there are.
        on_done: hears how many prompts of the share were scored.

    Raises:
        CxrguardError: If the model cannot be used, or runs out of memory.

    """
    share = job.share
    detectors = Detectors(job.names, share.draws)
    work = WorkDirectory(share.work, share.fingerprint, detectors.columns)
    done, _, _ = work.load(share.n)
    if done.all():
        return
    model = ScoringModel(share.model, job.base, device)

    def score(numbers: tuple[int, ...], prompts: tuple[str, ...]) -> _Scored:
        return numbers, _score(model, detectors, prompts, share.seed), model.are_cut(prompts)

    def save(batches: list[_Scored]) -> None:
        numbers, scores, cut = zip(*batches, strict=True)
        work.add(rank, list(chain(*numbers)), np.concatenate(scores), list(chain(*cut)))

    work_off(share.batches(done, rank, world), score, save, on_done)


def work_off(
    batches: Iterable[list[tuple[int, str]]],
    do: Callable[[tuple[int, ...], tuple[str, ...]], Item],
    save: Callable[[list[Item]], None],
    on_done: Callable[[int], None] | None,
) -> None:
    """Does the batches of a share one after the other, and saves them part by part.

    Args:
        batches: numbered prompts.
        do: is given numbers and prompts.
        save: writes what ``do`` gave for some batches.
        on_done: hears how many prompts are done.

    """
    part, count = PartBuffer(save), 0
    for batch in batches:
        numbers, prompts = zip(*batch, strict=True)
        part.add(len(batch), do(numbers, prompts))
        count += len(batch)
        if on_done:
            on_done(count)
    part.write()


def shares(table: PromptTable, done: np.ndarray, batch_size: int, rank: int, world: int) -> Iterator[list[tuple[int, str]]]:
    """The share's batches. Where they begin depends on nothing but the batch size, so that all processes, and a run that goes on,
    make up the same ones.
    """
    batch: list[tuple[int, str]] = []
    current = -1
    for number, prompt in table.unique():
        if number // batch_size != current:
            if batch:
                yield batch
            batch, current = [], number // batch_size
        if current % world == rank and not done[number]:
            batch.append((number, prompt))
    if batch:
        yield batch


def _score(model: ScoringModel, detectors: Detectors, prompts: tuple[str, ...], seed: int) -> np.ndarray:
    with fits_in_memory(len(prompts), "; the run goes on where it stopped"):
        return detectors(model.denoiser, model.batch(prompts, seed)).numpy()


class PartBuffer(Generic[Item]):
    """What is done and not written yet.

    Args:
        save: writes batches, each as it was added.

    """

    def __init__(self, save: Callable[[list[Item]], None]) -> None:
        self._save = save
        self._clear()

    def _clear(self) -> None:
        self._batches: list[Item] = []
        self._n = 0
        self._since = time.monotonic()

    def add(self, n: int, batch: Item) -> None:
        """Takes a batch of ``n`` prompts, and writes if it is time to."""
        self._batches.append(batch)
        self._n += n
        if self._n >= PART_PROMPTS or time.monotonic() - self._since >= PART_SECONDS:
            self.write()

    def write(self) -> None:
        """Writes what there is."""
        if self._batches:
            self._save(self._batches)
        self._clear()
