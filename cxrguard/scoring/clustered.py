"""A mean with its interval from sums alone, so that a corpus of any size takes no memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cxrguard.audit.intervals import MIN_CLUSTERS
from cxrguard.audit.paired import t_95


@dataclass
class ClusteredMean:
    """The mean of values that come in clusters (the places of a word in a prompt), and its cluster-robust interval.

    As :func:`cxrguard.audit.paired.t_interval`, whose Σ_g (S_g − n_g x̄)² is here Σ S_g² − 2 x̄ Σ n_g S_g + x̄² Σ n_g², with S_g the sum
    of a cluster's n_g values.

    Attributes:
        n: values.
        clusters: clusters.

    """

    n: int = 0
    clusters: int = 0
    _total: float = 0.0
    _squares: float = 0.0
    _products: float = 0.0
    _sizes: float = 0.0

    def add(self, values: Sequence[float]) -> None:
        """Takes a cluster; an empty one is none."""
        if not values:
            return
        size, total = len(values), math.fsum(values)
        self.n += size
        self.clusters += 1
        self._total += total
        self._squares += total * total
        self._products += size * total
        self._sizes += size * size

    @property
    def mean(self) -> float | None:
        """The mean of all values, None without any."""
        return self._total / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 %, None with fewer than two clusters."""
        mean = self.mean
        if mean is None or self.clusters < MIN_CLUSTERS:
            return None
        off = max(0.0, self._squares - 2 * mean * self._products + mean * mean * self._sizes)
        half = t_95(self.clusters - 1) * math.sqrt(self.clusters / (self.clusters - 1) * off) / self.n
        return mean - half, mean + half

    def told(self, what: str = "prompts") -> dict[str, object]:
        """Plain types for a summary, with the reason for what is null."""
        reason = None
        if self.clusters < MIN_CLUSTERS:
            reason = f"two {what} are needed; there {'is' if self.clusters == 1 else 'are'} {self.clusters}"
        ends = self.interval
        return {"n": self.n, f"n_{what}": self.clusters, "mean": self.mean, "ci": None if ends is None else list(ends), "reason": reason}
