"""One device's share of the prompts to attribute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cxrguard.scoring.attribution import Attributor
from cxrguard.scoring.detectors import Draws
from cxrguard.scoring.model import ScoringModel
from cxrguard.scoring.pieces import Numbered, PieceDirectory
from cxrguard.scoring.prompts import PromptTable
from cxrguard.scoring.worker import shares, work_off


@dataclass(frozen=True)
class AttributeJob:
    """All that a process needs to attribute its share; it is sent to it.

    Attributes:
        table: the prompts.
        n: how many different ones there are.
        model: the pipeline.
        draws: steps and seeds.
        seed: of the noise.
        ablation: whether each word is left out in turn.
        batch_size: prompts at once.
        work: where the attributions go.
        fingerprint: the job's.

    """

    table: PromptTable
    n: int
    model: str
    draws: Draws
    seed: int
    ablation: bool
    batch_size: int
    work: Path
    fingerprint: str


def attribute_share(job: AttributeJob, device: str, rank: int = 0, world: int = 1, on_done: Callable[[int], None] | None = None) -> None:
    """Attributes what is left of the share of process ``rank`` of ``world``, part by part; see :func:`.worker.score_share`.

    Raises:
        CxrguardError: If the model cannot be used, or runs out of memory.

    """
    work = PieceDirectory(job.work, job.fingerprint)
    done = work.done(job.n)
    if done.all():
        return
    attribute = Attributor(ScoringModel(job.model, device=device), job.draws, job.seed, ablation=job.ablation, batch_size=job.batch_size)

    def do(numbers: tuple[int, ...], prompts: tuple[str, ...]) -> Numbered:
        return numbers, attribute(prompts)

    work_off(shares(job.table, done, job.batch_size, rank, world), do, lambda batches: work.add(rank, batches), on_done)
