"""Writes the scored table, and the benchmark with its card, together or not at all."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from cxrguard.errors import BadInputError
from cxrguard.scoring.benchmark import Collector, select
from cxrguard.scoring.card import card
from cxrguard.scoring.cells import finite
from cxrguard.scoring.detectors import Detectors
from cxrguard.scoring.prompts import PromptTable, UniquePrompts
from cxrguard.scoring.request import ScoreRequest, parse_top
from cxrguard.tables import PrivateOutput, commit_all, open_output, open_writer, told_of


@dataclass(frozen=True)
class Results:
    """What was found.

    Attributes:
        request: what was asked for.
        table: the prompts.
        prompts: their numbers.
        scores: ``[prompts, columns]``.
        cut: which are longer than the encoder takes.
        fingerprint: the job's.

    """

    request: ScoreRequest
    table: PromptTable
    prompts: UniquePrompts = field(repr=False)
    scores: np.ndarray = field(repr=False)
    cut: np.ndarray = field(repr=False)
    fingerprint: str

    def write(self) -> int | None:
        """Writes everything.

        Returns:
            How many prompts are in the benchmark, None without one.

        Raises:
            CxrguardError: If something cannot be written, or the table has changed.

        """
        request, detectors = self.request, self.request.detectors
        collector = self._collector(detectors) if request.wants_benchmark else None
        paths = [request.benchmark_path, request.card_path] if collector else []
        with told_of(request.target), ExitStack() as stack:
            outputs = [open_output(stack, path) for path in [*paths, request.target]]
            self._write_table(outputs[-1], detectors, collector)
            if collector:
                collector.write(request.benchmark_path, outputs[0].file, detectors.columns, self.scores)
                outputs[1].file.write(card(request, self.prompts, collector, int(self.cut.sum()), self.fingerprint).encode())
            commit_all(outputs)
        return len(collector.selection.numbers) if collector else None

    def _collector(self, detectors: Detectors) -> Collector:
        oriented = self.scores[:, 0] * detectors.sign(detectors.columns[0])
        selection = select(oriented, parse_top(self.request.top_or_default), self.request.zscore)
        return Collector(selection, len(self.scores), show=self.request.show_prompts)

    def _write_table(self, output: PrivateOutput, detectors: Detectors, collector: Collector | None) -> None:
        columns = detectors.columns
        writer = open_writer(self.request.target, output.file, self.request.column, columns, (float,) * len(columns))
        nothing = (None,) * len(columns)
        for batch in self.table.batches():
            numbers = self._numbers(batch.texts)
            writer.write(batch, [nothing if number is None else tuple(map(finite, self.scores[number])) for number in numbers])
            for number, text in zip(numbers, batch.texts, strict=True):
                if collector and number is not None:
                    collector.see(number, text)
        writer.finish()

    def _numbers(self, texts: list[str]) -> list[int | None]:
        try:
            return [self.prompts.number(text) for text in texts]
        except KeyError:
            pass  # raised below, without the context
        raise BadInputError(f"{self.table.where}: changed while it was scored. Run it again.")
