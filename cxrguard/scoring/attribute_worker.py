"""One device's share of the prompts to attribute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cxrguard.scoring.attribution import Attributor
from cxrguard.scoring.model import ScoringModel
from cxrguard.scoring.pieces import Numbered, PieceDirectory
from cxrguard.scoring.worker import Share, work_off


@dataclass(frozen=True)
class AttributeJob:
    """What a process attributes, and how.

    Attributes:
        share: the prompts and the model.
        ablation: whether each word is left out in turn.

    """

    share: Share
    ablation: bool


def attribute_share(job: AttributeJob, device: str, rank: int = 0, world: int = 1, on_done: Callable[[int], None] | None = None) -> None:
    """Attributes what is left of the share of process ``rank`` of ``world``, part by part; see :func:`.worker.score_share`.

    Raises:
        CxrguardError: If the model cannot be used, or runs out of memory.

    """
    share = job.share
    work = PieceDirectory(share.work, share.fingerprint)
    done = work.done(share.n)
    if done.all():
        return
    model = ScoringModel(share.model, device=device)
    attribute = Attributor(model, share.draws, share.seed, ablation=job.ablation, batch_size=share.batch_size)

    def do(numbers: tuple[int, ...], prompts: tuple[str, ...]) -> Numbered:
        return numbers, attribute(prompts)

    work_off(share.batches(done, rank, world), do, lambda batches: work.add(rank, batches), on_done)
