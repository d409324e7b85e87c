"""One table through the mitigations, as ``cxrguard mitigate`` does it: the output appears at the end, or not at all."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cxrguard.errors import CxrguardError
from cxrguard.mitigating.catalogue import build
from cxrguard.mitigating.mitigator import Mitigator, Outcome
from cxrguard.mitigating.own_images import OwnImages
from cxrguard.mitigating.request import MitigateRequest
from cxrguard.mitigating.summary import Summary
from cxrguard.mitigations.inference.generate import MitigatedSampler
from cxrguard.scoring.by_row import found_by_row
from cxrguard.scoring.cells import finite
from cxrguard.scoring.launch import pick_device
from cxrguard.scoring.model import ScoringModel
from cxrguard.scoring.prompts import PromptTable, prompt_table
from cxrguard.tables import Batch, PrivateOutput, commit_all, open_output, open_writer, told_of
from cxrguard.tables.lines import STANDARD
from cxrguard.tables.progress import progress_bar
from cxrguard.termination import ended_cleanly

Found = dict[str, Outcome]


def mitigate_file(request: MitigateRequest) -> Summary:
    """Mitigates a table; see :class:`MitigateRequest`.

    Raises:
        CxrguardError: For a model, a table or an image that cannot be used; then nothing is written.

    """
    added = () if request.overwrite else tuple(request.added)
    with told_of(request.target), ended_cleanly(), prompt_table(request.source, request.column, added) as table:
        return _Run(request, table).write()


class _Run:
    """Goes through the table."""

    def __init__(self, request: MitigateRequest, table: PromptTable) -> None:
        self._request, self._table, self._prompts = request, table, table.count()
        model = ScoringModel(request.model, device=pick_device())
        self._images = self._open_images(model) if request.image_column else None
        sampler = MitigatedSampler(model.parts.scheduler.config, request.steps, request.guidance_scale)
        mitigations = [build(name) for name in request.names]
        self._mitigator = Mitigator(model, mitigations, sampler, request.seed, request.draws, request.batch_size)
        self._model = model
        self._summary = Summary(request.names, self._prompts, with_images=bool(self._images))

    def _open_images(self, model: ScoringModel) -> OwnImages:
        size = model.parts.image_size
        if size is None:
            raise CxrguardError(f"{self._request.model}: makes images that are not square, with which none can be compared.")
        root = Path() if self._request.source == STANDARD else Path(self._request.source).parent
        return OwnImages(self._table, self._request.image_column, root, size)

    def write(self) -> Summary:
        with ExitStack() as stack:
            output = open_output(stack, self._request.target)
            self._write_rows(output)
            commit_all([output])
        return self._summary

    def _write_rows(self, output: PrivateOutput) -> None:
        request, done = self._request, 0
        names, types = tuple(request.added), tuple(request.added.values())
        writer = open_writer(request.target, output.file, request.column, names, types)
        found = found_by_row(self._table, request.batch_size, self._learn)
        with progress_bar("Mitigating", lambda: (done, self._prompts.rows), show=request.progress) as update:
            for batch in self._table.batches():
                cells = []
                for values in batch.rows():
                    done, _, outcomes = next(found)
                    image = self._images.name(done, values) if self._images else ""
                    cells += list(self._cells(outcomes or {}, image))
                    update(done)
                writer.write(repeated(batch, len(request.names)), cells)
        writer.finish()

    def _learn(self, texts: Sequence[str]) -> list[Found]:
        """What a prompt adds to the summary it adds once."""
        images = [self._images.of(text) for text in texts] if self._images else None
        found = self._mitigator(texts, images)
        for outcomes, cut in zip(found, self._model.are_cut(texts), strict=True):
            self._summary.add(outcomes, cut)
        return found

    def _cells(self, outcomes: Found, image: str) -> Iterator[tuple[Any, ...]]:
        """The added cells of a row, once for each mitigation; of an empty prompt the names alone."""
        for name in self._request.names:
            told = outcomes.get(name)
            cells = [name, *(_figures(told) if told else (None, None, None))]
            if self._images:
                cells.append(finite(told.own_distance[image]) if told and image in told.own_distance else None)
            yield (*cells, *([told.text if told else None] if self._request.write_prompts else []))


def _figures(told: Outcome) -> tuple[float | None, int, float | None]:
    norm, change = (None if value is None else finite(value) for value in (told.text_noise_norm, told.change))
    return norm, told.evaluations, change


def repeated(batch: Batch, times: int) -> Batch:
    """Each row of a batch ``times`` times, in its own format, so that a writer of the same keeps the rest as it is."""
    more = copy.copy(batch)
    order = [i for i in range(len(batch.texts)) for _ in range(times)]
    more.texts = [batch.texts[i] for i in order]
    if isinstance(batch.native, list):
        more.native = [batch.native[i] for i in order]
    elif hasattr(batch.native, "take"):  # a pyarrow.RecordBatch
        more.native = batch.native.take(order)
    return more
