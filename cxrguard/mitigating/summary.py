"""The mitigations side by side: means over the different prompts, and no text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.table import Table

from cxrguard.mitigating.catalogue import NONE
from cxrguard.mitigating.mitigator import Outcome
from cxrguard.scoring.prompts import UniquePrompts

_WIDTH = 120


@dataclass
class Column:
    """The figures of one mitigation; of each prompt one, in pairs where two are compared.

    Attributes:
        before: scores without a mitigation, of the prompts that have one with it.
        after: scores with it.
        evaluations: UNet evaluations.
        own: distances to the images.
        change: distances from the samples without a mitigation.
        withheld: prompts that nothing was generated from.

    """

    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    evaluations: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    change: list[float] = field(default_factory=list)
    withheld: int = 0

    def add(self, plain: Outcome, told: Outcome) -> None:
        """Takes note of a prompt."""
        if told.text is None:
            self.withheld += 1
            return
        if _known(plain.text_noise_norm, told.text_noise_norm):
            self.before.append(float(plain.text_noise_norm or 0.0))
            self.after.append(float(told.text_noise_norm or 0.0))
        self.evaluations.append(told.evaluations)
        self.own += [distance for distance in told.own_distance.values() if math.isfinite(distance)]
        self.change += [told.change] if told.change is not None and math.isfinite(told.change) else []

    @property
    def reduction(self) -> float | None:
        """By how much the mean score fell, in percent; below 0 it rose. None without a score to compare with."""
        before, after = mean(self.before), mean(self.after)
        return 100 * (1 - after / before) if before and after is not None else None


class Summary:
    """Collects what ``cxrguard mitigate`` tells at its end.

    Args:
        names: of the mitigations, ``none`` first.
        prompts: rows, repeats and empty prompts.
        with_images: whether there are distances to images.

    """

    def __init__(self, names: Sequence[str], prompts: UniquePrompts, *, with_images: bool) -> None:
        self.columns = {name: Column() for name in names}
        self.prompts, self.n_cut = prompts, 0
        self._with_images = with_images

    def add(self, outcomes: Mapping[str, Outcome], cut: bool) -> None:
        """Takes note of a prompt that was not met before; ``cut`` says that it is longer than the encoder takes."""
        self.n_cut += cut
        for name, column in self.columns.items():
            column.add(outcomes[NONE], outcomes[name])

    def lines(self) -> Iterator[str]:
        """What was done, for people."""
        prompts = self.prompts
        yield f"{prompts.rows:,} rows; {len(prompts):,} different prompts under {len(self.columns) - 1} mitigations and none."
        told = (
            ("Rows that repeat a prompt (generated once)", prompts.repeated),
            ("Rows with an empty prompt (no figures)", prompts.empty),
            ("Prompts longer than the text encoder takes (cut)", self.n_cut),
        )
        yield from (f"{what}: {n:,}." for what, n in told if n)

    def table(self) -> Table:
        """A row a mitigation."""
        heads = ["score before", "score after", "reduction", "evaluations", *(["own distance"] if self._with_images else []), "change"]
        withheld = any(column.withheld for column in self.columns.values())
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("mitigation", no_wrap=True)
        for head in [*heads, *(["withheld"] if withheld else [])]:
            table.add_column(head, justify="right", no_wrap=True)
        for name, column in self.columns.items():
            table.add_row(name, *self._cells(column), *([f"{column.withheld:,}"] if withheld else []))
        return table

    def _cells(self, column: Column) -> Iterator[str]:
        yield from (_shown(mean(column.before)), _shown(mean(column.after)))
        yield "-" if column.reduction is None else f"{column.reduction:.1f} %"
        evaluations = mean(column.evaluations)
        yield "-" if evaluations is None else f"{evaluations:,.0f}"
        if self._with_images:
            yield _shown(mean(column.own))
        yield _shown(mean(column.change))

    def show(self) -> None:
        """Prints :meth:`table` on standard error."""
        console = Console(stderr=True)
        if console.width < _WIDTH:  # numbers that are cut short would mislead
            console = Console(stderr=True, width=_WIDTH)
        console.print(self.table())


def mean(values: Sequence[float]) -> float | None:
    """The mean, None of nothing."""
    return sum(values) / len(values) if values else None


def _known(*values: float | None) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
