"""Lowers a loss of each sample on its own, and stops each on its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""(values of some samples, which samples these are) → the loss of each."""


def minimize_each(
    start: Shaped[Tensor, "n ..."],
    loss: Loss,
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
    target: float,
    iterations: int,
    free: Tensor | None = None,
) -> tuple[Shaped[Tensor, "n ..."], Int[Tensor, " n"]]:
    """Gradient steps on each sample until its loss is at most ``target`` or ``iterations`` are done.

    The loss is looked at before the step, as the published codes do: the last step's outcome is not looked at any more. A sample that has
    stopped is not evaluated again and does not move, whatever the others do.

    Args:
        start: values to begin with, one a sample.
        loss: see :data:`Loss`; no sample's may depend on another's.
        optimizer: makes an optimizer that acts on each value by itself (Adam and its like).
        target: see above.
        iterations: at most so many.
        free: which values may move, of a shape that broadcasts with ``start``; None for all.

    Returns:
        The values, and how often each sample's loss was evaluated.

    """
    values = start.detach().clone().requires_grad_()
    steps = optimizer([values])
    rows = torch.arange(len(start), device=start.device)
    evaluated = torch.zeros(len(start), dtype=torch.int64)
    for _ in range(iterations):
        with torch.enable_grad():
            losses = loss(values[rows], rows)
            evaluated[rows.cpu()] += 1
            going = losses.detach() > target
            if not bool(going.any()):
                break
            (values.grad,) = torch.autograd.grad(losses[going].sum(), values)
        rows = rows[going]
        _step(values, steps, rows, free)
    return values.detach(), evaluated


@torch.no_grad()
def _step(values: Tensor, steps: torch.optim.Optimizer, rows: Tensor, free: Tensor | None) -> None:
    """One step of ``rows``; momentum and weight decay would move the others, and what is not free, as well."""
    before = values.detach().clone()
    steps.step()
    moves = torch.zeros_like(values, dtype=torch.bool)
    moves[rows] = True
    values.copy_(torch.where(moves if free is None else moves & free, values, before))
