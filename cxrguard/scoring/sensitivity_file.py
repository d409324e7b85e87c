"""One table through the edits, as ``cxrguard sensitivity`` does it: all outputs appear together at the end, or none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from cxrguard.audit.marker_test import WORDINGS, compare_wordings
from cxrguard.audit.paired import mean_difference
from cxrguard.files import finite_or_null
from cxrguard.scoring.by_row import found_by_row
from cxrguard.scoring.cells import MadeBatch, finite
from cxrguard.scoring.detectors import DEFAULT, Detectors, Draws, check_names
from cxrguard.scoring.keyed_scorer import NoiseKeyedScorer
from cxrguard.scoring.launch import pick_device
from cxrguard.scoring.model import ScoringModel
from cxrguard.scoring.prompts import PromptTable, prompt_table
from cxrguard.scoring.request import check_paths
from cxrguard.scoring.sensitivity import EDITS, SEARCHES, Sensitivity, SensitivityProbe
from cxrguard.tables import PrivateOutput, commit_all, open_output, open_writer, told_of
from cxrguard.tables.progress import progress_bar
from cxrguard.termination import ended_cleanly

_FIRST = ["row", "kind"]
_FIGURES: dict[str, type] = {"score": float, "difference": float, "words_changed": int}


@dataclass(frozen=True)
class SensitivityRequest:
    """One run of ``cxrguard sensitivity``; see there.

    Args:
        model: a diffusers pipeline directory.
        source: the table of prompts, or ``-``.
        target: where the rows go, or ``-``.
        column: the prompts' column.
        detector: what scores.
        draws: steps and seeds.
        base: the pipeline that fine-tuning started from, or "".
        batch_size: prompts at once.
        seed: of the noise and of the edits.
        budget: prompts that each adversarial search of a prompt may score; 0 makes none.
        show_prompts: write the wordings, too.
        summary: where the summary goes as JSON, or "".
        progress: show a bar, if standard error is a terminal.

    Raises:
        CxrguardError: For what cannot work together, or a file that is missing.

    """

    model: str
    source: str
    target: str
    column: str = "prompt"
    detector: str = DEFAULT
    draws: Draws = field(default_factory=Draws)
    base: str = ""
    batch_size: int = 32
    seed: int = 0
    budget: int = 0
    show_prompts: bool = False
    summary: str = ""
    progress: bool = False

    def __post_init__(self) -> None:
        Detectors(check_names([self.detector], has_base=bool(self.base)), self.draws)
        check_paths(self.source, self.target, {"--summary": self.summary})


class _Tally:
    """What the summary needs: numbers, no text."""

    def __init__(self) -> None:
        self.differences: dict[str, list[float]] = {kind: [] for kind in EDITS}
        self.words: Counter[str] = Counter()
        self.wordings: list[list[float]] = []  # original, sanitized, placebo
        self.statuses: Counter[str] = Counter()
        self.n_marked = self.n_cut = self.n_without_placebo = 0

    def add(self, found: Sensitivity) -> None:
        """Takes note of a prompt that was not met before."""
        self.n_cut += found.cut
        original = found.wordings[0].score
        for wording in found.wordings[1:]:
            self.differences[wording.kind].append(wording.score - original)
            self.words[wording.kind] += wording.words_changed
        if found.marked:
            self.n_marked += 1
            self.statuses[found.status] += 1
            scores = [found.score(wording) for wording in WORDINGS]
            if None not in scores:
                self.wordings.append([score for score in scores if score is not None])
            elif scores[1] is not None:
                self.n_without_placebo += 1


def sensitivity_file(request: SensitivityRequest) -> dict[str, Any]:
    """Edits and scores a table; see :class:`SensitivityRequest`.

    Returns:
        The summary, plain types.

    Raises:
        CxrguardError: For a model or a table that cannot be used; then nothing is written.

    """
    with told_of(request.target), ended_cleanly(), prompt_table(request.source, request.column) as table:
        return _Run(request, table).write()


class _Run:
    """Goes through the table."""

    def __init__(self, request: SensitivityRequest, table: PromptTable) -> None:
        self._request, self._table, self._prompts = request, table, table.count()
        self._tally = _Tally()
        model = ScoringModel(request.model, request.base, pick_device())
        self._score = NoiseKeyedScorer(model, request.detector, request.draws, request.seed, request.batch_size)
        self._probe = SensitivityProbe(model, self._score, request.seed, request.budget)

    def write(self) -> dict[str, Any]:
        with ExitStack() as stack:
            told = open_output(stack, self._request.summary) if self._request.summary else None
            output = open_output(stack, self._request.target)
            self._write_wordings(output)
            summary = self._summary()
            if told:
                told.file.write(to_json(summary).encode())
            commit_all([each for each in (told, output) if each])
        return summary

    def _write_wordings(self, output: PrivateOutput) -> None:
        request, done = self._request, 0
        added = _FIGURES | ({"text": str} if request.show_prompts else {})
        writer = open_writer(request.target, output.file, "kind", tuple(added), tuple(added.values()))
        with progress_bar("Editing and scoring", lambda: (done, self._prompts.rows), show=request.progress) as update:
            for done, _, found in found_by_row(self._table, request.batch_size, self._learn):
                if found:
                    made = [(done, wording.kind) for wording in found.wordings]
                    writer.write(MadeBatch(request.target, done, [], made, _FIRST), list(self._cells(found)))
                update(done)
        writer.finish()

    def _learn(self, texts: Sequence[str]) -> list[Sensitivity]:
        found = self._probe(texts)
        for each in found:
            self._tally.add(each)
        return found

    def _cells(self, found: Sensitivity) -> Iterator[tuple[Any, ...]]:
        original = found.wordings[0].score
        for wording in found.wordings:
            figures = (finite(wording.score), finite(wording.score - original), wording.words_changed)
            yield (*figures, *([wording.text] if self._request.show_prompts else []))

    def _summary(self) -> dict[str, Any]:
        request, tally, prompts = self._request, self._tally, self._prompts
        counts = {"rows": prompts.rows, "different": len(prompts), "empty": prompts.empty, "marked": tally.n_marked, "cut": tally.n_cut}
        return {
            "detector": request.detector,
            "direction": self._score.direction,
            "steps": request.draws.steps,
            "seeds": request.draws.seeds,
            "seed": request.seed,
            "scored": self._score.scored,
            "evals_per_scoring": self._score.evals_per_prompt,
            "prompts": counts,
            "sanitizer": {status: tally.statuses[status] for status in ("edited", "emptied", "refused")},
            "edits": {kind: self._edit(kind) for kind in EDITS if request.budget or kind not in SEARCHES},
            "marker_test": compare_wordings(tally.wordings, n_without_placebo=tally.n_without_placebo, seed=request.seed),
        }

    def _edit(self, kind: str) -> dict[str, Any]:
        told = mean_difference(self._tally.differences[kind], seed=self._request.seed)
        n = len(self._tally.differences[kind])
        return told | {"words_changed": self._tally.words[kind] / n if n else None}


def to_json(summary: dict[str, Any]) -> str:
    """The summary as a file holds it."""
    return json.dumps(finite_or_null(summary), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def summary_lines(summary: dict[str, Any]) -> Iterator[str]:
    """What was done, for people."""
    prompts = summary["prompts"]
    yield f"{prompts['rows']:,} rows; {prompts['different']:,} different prompts, {prompts['marked']:,} of them with a marker."
    yield f"{summary['scored']:,} wordings scored with {summary['evals_per_scoring']} UNet evaluations each."
    for name, what in (("empty", "Rows with an empty prompt (left out)"), ("cut", "Prompts longer than the text encoder takes (cut)")):
        if prompts[name]:
            yield f"{what}: {prompts[name]:,}."
    told = summary["marker_test"]
    for name, what in (
        ("sanitized", "Sanitized less original"),
        ("placebo", "Placebo less original"),
        ("marker", "Sanitized less placebo"),
    ):
        yield f"{what}: {_figure(told[name])}"


def _figure(told: dict[str, Any]) -> str:
    if told["mean"] is None:
        return f"null ({told['reason']})."
    interval = f"95 % interval {told['ci'][0]:.4g} to {told['ci'][1]:.4g}" if told["ci"] else told["reason"]
    return f"{told['mean']:.4g} ({interval}; {told['n']:,} prompts)."
