"""How much of a run's prompts a scheduled probe round can afford to look at."""

from __future__ import annotations

from dataclasses import dataclass

from cxrguard.randomness import numpy_generator

TRAINING_COST = 4
"""UNet evaluations that a training sample costs with its step; what a round then costs is measured in ``benchmarks/bench_probes.py``."""
MIN_CANARIES, MIN_CONTROLS = 4, 8
LOSS_SHARE = 0.2


@dataclass(frozen=True)
class Round:
    """What one probe round looks at.

    Attributes:
        canaries: how many.
        controls: how many.
        heldout: images that the held-out loss is taken over.
        every_wording: whether in all wordings of a prompt, or only in the one that is trained on.

    """

    canaries: int
    controls: int
    heldout: int
    every_wording: bool = False


def plan_round(budget: float, evals_per_prompt: int, evals_per_image: int, whole: Round, batch_size: int) -> Round:
    """The largest round whose UNet evaluations stay within ``budget``; its parts are no larger than those of ``whole``.

    A fifth goes to the held-out loss, at least one batch; a third of the rest to canaries, two thirds to controls. Never fewer
    than :data:`MIN_CANARIES` and :data:`MIN_CONTROLS` (where there are so many): a round that sees less says nothing, so a small
    budget is overstepped.

    Args:
        budget: UNet evaluations.
        evals_per_prompt: all scores and the image of one prompt.
        evals_per_image: of the held-out loss.
        whole: all there is.
        batch_size: the held-out images come in such batches.

    Raises:
        ValueError: a cost is below 1, or the budget is not positive.

    """
    if min(evals_per_prompt, evals_per_image, batch_size) < 1 or not budget > 0:
        raise ValueError("budget and costs must be positive")
    batches = max(1, int(LOSS_SHARE * budget / evals_per_image / batch_size))
    heldout = min(whole.heldout, batches * batch_size)
    prompts = int(max(0.0, budget - heldout * evals_per_image) / evals_per_prompt)
    canaries = min(whole.canaries, max(MIN_CANARIES, prompts // 3))
    controls = min(whole.controls, max(MIN_CONTROLS, prompts - canaries))
    return Round(min(whole.canaries, max(canaries, prompts - controls)), controls, heldout)


def some_rows(n: int, count: int, name: str, seed: int) -> list[int]:
    """``count`` of ``n`` rows in order, drawn by (name, seed): repeats and arms come in turn, so that a stride would miss some."""
    return sorted(numpy_generator("probe-round", name, seed).permutation(n)[:count].tolist())
