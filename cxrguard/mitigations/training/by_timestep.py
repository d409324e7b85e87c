"""What is usual at a timestep: mean and spread of a positive figure over held-out samples, in bins."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cxrguard.errors import CxrguardError

TINY = 1e-12


class HeldoutByTimestep:
    """Mean and standard deviation of the logarithm of a held-out figure, by timestep bin.

    A loss differs tenfold between timesteps and little between samples, so a figure says something only beside what is usual at its
    timestep. The last ``rounds`` calibrations count: one alone has few samples a bin, and old ones are of another model.

    Args:
        n_timesteps: of the training schedule.
        bins: of equal width.
        rounds: calibrations that are kept.

    Raises:
        CxrguardError: a count is below 1, or there are more bins than timesteps.

    """

    def __init__(self, n_timesteps: int = 1000, bins: int = 10, rounds: int = 4) -> None:
        if not 1 <= bins <= n_timesteps or rounds < 1:
            raise CxrguardError(f"a mitigation needs 1 to {n_timesteps} bins and 1 round at least, not {bins} and {rounds}")
        self.n_timesteps, self.bins, self.rounds = n_timesteps, bins, rounds
        self._rounds: list[Tensor] = []  # each [3, bins]: count, sum, sum of squares

    @property
    def ready(self) -> bool:
        """Whether there was a calibration."""
        return bool(self._rounds)

    def observe(self, values: Float[Tensor, " n"], timesteps: Int[Tensor, " n"]) -> None:
        """One more calibration."""
        logs, places = _log(values), self._bin(timesteps)
        sums = torch.zeros(3, self.bins, dtype=torch.float64)
        for row, each in enumerate((torch.ones_like(logs), logs, logs.square())):
            sums[row].index_add_(0, places, each)
        self._rounds = [*self._rounds, sums][-self.rounds :]

    def standardised(self, values: Float[Tensor, " n"], timesteps: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """(log value − mean) / standard deviation at each timestep: about standard normal for held-out samples."""
        mean, deviation = self._moments()
        places = self._bin(timesteps)
        return (_log(values) - mean[places]) / deviation[places]

    def ratio(self, values: Float[Tensor, " n"], timesteps: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Value divided by the geometric mean of held-out samples at its timestep."""
        mean, _ = self._moments()
        return (_log(values) - mean[self._bin(timesteps)]).exp()

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation a bin; a bin with fewer than 2 samples has those of all bins."""
        count, total, squares = torch.stack(self._rounds).sum(dim=0)
        pooled = torch.stack([count.sum(), total.sum(), squares.sum()])[:, None].expand(3, self.bins)
        count, total, squares = torch.where(count >= 2, torch.stack([count, total, squares]), pooled)
        mean = total / count.clamp(min=1)
        variance = (squares / count.clamp(min=1) - mean.square()) * count / (count - 1).clamp(min=1)
        return mean, variance.clamp(min=1e-6).sqrt()

    def _bin(self, timesteps: Tensor) -> Tensor:
        return (timesteps.cpu().long() * self.bins // self.n_timesteps).clamp(0, self.bins - 1)

    def state_dict(self) -> dict[str, Any]:
        """The calibrations that count."""
        return {"rounds": list(self._rounds)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self._rounds = list(state["rounds"])


def _log(values: Tensor) -> Tensor:
    return values.detach().cpu().double().clamp(min=TINY).log()


def lowest_share(values: Float[Tensor, " n"], share: float) -> float:
    """The threshold below which at most ``share`` of the values lie: with fewer than 1 / share values none does."""
    ordered = values.double().sort().values
    return float(ordered[min(int(share * len(ordered)), len(ordered) - 1)])
