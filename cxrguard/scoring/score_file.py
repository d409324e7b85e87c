"""One table through the detectors, as ``cxrguard score`` does it: all outputs appear together at the end, or none."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch

from cxrguard import __version__
from cxrguard.errors import BadInputError, CxrguardError
from cxrguard.scoring.launch import share_out
from cxrguard.scoring.model import fingerprint_model
from cxrguard.scoring.parts import STARTS, work_path
from cxrguard.scoring.prompts import PromptTable, UniquePrompts, prompt_table
from cxrguard.scoring.request import ScoreRequest
from cxrguard.scoring.results import Results
from cxrguard.scoring.work import WorkDirectory
from cxrguard.scoring.worker import ScoreJob, Share, score_share
from cxrguard.termination import ended_cleanly


@dataclass(frozen=True)
class Scored:
    """What a run did.

    Attributes:
        prompts: rows, repeats and empty prompts.
        n_cut: prompts longer than the encoder.
        n_not_finite: scores that are no number.
        evals_per_prompt: UNet evaluations.
        n_selected: prompts in the benchmark, None without one.

    """

    prompts: UniquePrompts
    n_cut: int
    n_not_finite: int
    evals_per_prompt: int
    n_selected: int | None = None


def score_file(request: ScoreRequest, say: Callable[[str], None] = lambda line: None) -> Scored:
    """Scores a table; see :class:`ScoreRequest`.

    Args:
        request: what to score.
        say: hears before the work begins whether it goes on from an interrupted run's.

    Raises:
        CxrguardError: For a model or a table that cannot be used. Then no output is written; what was scored stays in the work
            directory, and the same request goes on from there.

    """
    columns = request.detectors.columns
    if request.column in columns:
        raise BadInputError(f"The prompts' column {request.column!r} has a detector's name. Rename it.")
    with ended_cleanly(), ExitStack() as stack:
        weights = [fingerprint_model(model) for model in (request.model, request.base) if model]
        table = stack.enter_context(prompt_table(request.source, request.column, () if request.overwrite else columns))
        prompts = table.count()
        fingerprint = _fingerprint(request, weights, table)
        work = WorkDirectory(stack.enter_context(work_path(request.target)), fingerprint, columns)
        start = stack.enter_context(work.open(resume=request.resume))
        if start in STARTS:
            say(STARTS[start].format(int(work.load(len(prompts))[0].sum())))
        _score(request, table, len(prompts), work)
        scored = _finish(request, table, prompts, work)
        work.remove()
    return scored


def _fingerprint(request: ScoreRequest, weights: list[str], table: PromptTable) -> str:
    """A hash of all that a score depends on. Devices and batch size are no part of it: they change no score."""
    told = (weights, request.names, request.draws, request.seed, request.column, table.hash(), __version__, torch.__version__)
    return hashlib.blake2b(repr(told).encode(), digest_size=10).hexdigest()


def _score(request: ScoreRequest, table: PromptTable, n: int, work: WorkDirectory) -> None:
    share = Share(table, n, request.model, request.draws, request.seed, request.batch_size, work.path, work.fingerprint)
    job = ScoreJob(share, request.base, request.names)
    left = n - int(work.load(n)[0].sum())
    share_out(request.devices, functools.partial(score_share, job), work.path, "Scoring", left, show=request.progress)


def _finish(request: ScoreRequest, table: PromptTable, prompts: UniquePrompts, work: WorkDirectory) -> Scored:
    done, scores, cut = work.load(len(prompts))
    if not done.all():
        raise CxrguardError(f"{int((~done).sum()):,} prompts have no score: a process ended early. Run it again, and it goes on.")
    n_selected = Results(request, table, prompts, scores, cut, work.fingerprint).write()
    return Scored(prompts, int(cut.sum()), int((~np.isfinite(scores)).sum()), request.detectors.evals_per_prompt, n_selected)


def summary_lines(request: ScoreRequest, scored: Scored) -> Iterator[str]:
    """What was done, for people."""
    prompts = scored.prompts
    yield f"{prompts.rows:,} rows; {len(prompts):,} different prompts scored with {scored.evals_per_prompt} UNet evaluations each."
    told = (
        ("Rows that repeat a prompt (scored once; all its rows have its score)", prompts.repeated),
        ("Rows with an empty prompt (no score)", prompts.empty),
        ("Prompts longer than the text encoder takes (cut; the score is of what is left)", scored.n_cut),
        ("Scores that are no finite number (left empty; are the weights sound?)", scored.n_not_finite),
    )
    yield from (f"{what}: {n:,}." for what, n in told if n)
    if scored.n_selected is not None:
        yield f"Prompts in the benchmark {request.benchmark_path}: {scored.n_selected:,}."
