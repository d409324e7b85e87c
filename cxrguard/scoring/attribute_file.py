"""One table through the attribution, as ``cxrguard attribute`` does it: all outputs appear together at the end, or none."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch

from cxrguard import __version__
from cxrguard.errors import CxrguardError
from cxrguard.scoring.attribute_worker import AttributeJob, attribute_share
from cxrguard.scoring.attributed import Attributed, AttributedFiles
from cxrguard.scoring.cue_words import check_ending
from cxrguard.scoring.detectors import Draws
from cxrguard.scoring.launch import share_out
from cxrguard.scoring.model import fingerprint_model
from cxrguard.scoring.parts import STARTS, work_path
from cxrguard.scoring.pieces import PieceDirectory
from cxrguard.scoring.prompts import PromptTable, UniquePrompts, prompt_table
from cxrguard.scoring.request import check_paths, check_table
from cxrguard.scoring.worker import Share
from cxrguard.tables import told_of
from cxrguard.termination import ended_cleanly


@dataclass(frozen=True)
class AttributeRequest:
    """One run of ``cxrguard attribute``; see there.

    Args:
        model: a diffusers pipeline directory.
        source: the table of prompts, or ``-``.
        target: where the tokens and words go, or ``-``.
        column: the prompts' column.
        draws: steps and seeds.
        batch_size: prompts at once.
        devices: processes, each with a device of its own.
        seed: of the noise.
        ablation: whether each word is left out in turn.
        show_words: write tokens and words, not keyed hashes.
        words: where the words of all prompts go, ranked, or "".
        summary: where the summary goes as JSON, or "".
        cues: where the sanitizer's list goes, or "".
        top_words: its words at most.
        min_prompts: different prompts that a word of it, or of ``words``, is in, at least.
        resume: go on where an interrupted run stopped.
        progress: show a bar, if standard error is a terminal.

    Raises:
        CxrguardError: For what cannot work together, or a file that is missing.

    """

    model: str
    source: str
    target: str
    column: str = "prompt"
    draws: Draws = field(default_factory=Draws)
    batch_size: int = 32
    devices: int = 1
    seed: int = 0
    ablation: bool = True
    show_words: bool = False
    words: str = ""
    summary: str = ""
    cues: str = ""
    top_words: int = 20
    min_prompts: int = 20
    resume: bool = True
    progress: bool = False

    def __post_init__(self) -> None:
        if self.cues:
            check_ending(self.cues)
        if self.words:
            check_table("--words", self.words)
        check_paths(self.source, self.target, {"--cues": self.cues, "--words": self.words, "--summary": self.summary})


def attribute_file(request: AttributeRequest, say: Callable[[str], None] = lambda line: None) -> Attributed:
    """Attributes a table; see :class:`AttributeRequest`.

    Args:
        request: what to attribute.
        say: hears before the work begins whether it goes on from an interrupted run's.

    Raises:
        CxrguardError: For a model or a table that cannot be used; then no output is written, what was done stays in the work directory,
            and the same request goes on from there. For a cue file that would hold no word.

    """
    with told_of(request.target), ended_cleanly(), ExitStack() as stack:
        weights = fingerprint_model(request.model)
        table = stack.enter_context(prompt_table(request.source, request.column))
        prompts = table.count()
        work = PieceDirectory(stack.enter_context(work_path(request.target)), _fingerprint(request, weights, table), request.devices + 1)
        start = stack.enter_context(work.open(resume=request.resume))
        if start in STARTS:
            say(STARTS[start].format(int(work.done(len(prompts)).sum())))
        _attribute(request, table, len(prompts), work)
        told = _finish(request, table, prompts, work)
        work.remove()
    if told.n_cues == 0:
        raise CxrguardError(
            f"{request.cues}: not written, though {request.target} is: of the words that raise the score and that at least "
            f"{request.min_prompts} prompts share, the sanitizer may touch none ({told.n_passed:,} may carry a fact). "
            "Give more prompts, or a lower --min-prompts."
        )
    return told


def _fingerprint(request: AttributeRequest, weights: str, table: PromptTable) -> str:
    """A hash of all that an attribution depends on."""
    asked = (request.draws, request.seed, request.column, request.ablation)
    told = ("attribute", weights, *asked, table.hash(), __version__, torch.__version__)
    return hashlib.blake2b(repr(told).encode(), digest_size=10).hexdigest()


def _attribute(request: AttributeRequest, table: PromptTable, n: int, work: PieceDirectory) -> None:
    share = Share(table, n, request.model, request.draws, request.seed, request.batch_size, work.path, work.fingerprint)
    job = AttributeJob(share, request.ablation)
    left = n - int(work.done(n).sum())
    share_out(request.devices, functools.partial(attribute_share, job), work.path, "Attributing", left, show=request.progress)


def _finish(request: AttributeRequest, table: PromptTable, prompts: UniquePrompts, work: PieceDirectory) -> Attributed:
    done = work.done(len(prompts))
    if not done.all():
        raise CxrguardError(f"{int((~done).sum()):,} prompts have no attribution: a process ended early. Run it again, and it goes on.")
    return AttributedFiles(request, table, prompts, work).write()


def summary_lines(request: AttributeRequest, told: Attributed) -> Iterator[str]:
    """What was done, for people."""
    prompts = told.prompts
    yield f"{prompts.rows:,} rows; {len(prompts):,} different prompts attributed."
    counts = (
        ("Rows that repeat a prompt (attributed once; all its rows have its words)", prompts.repeated),
        ("Rows with an empty prompt (no word)", prompts.empty),
        ("Prompts longer than the text encoder takes (cut; words beyond have no gradient)", told.n_cut),
    )
    yield from (f"{what}: {n:,}." for what, n in counts if n)
    yield from _agreement_lines(told.summary["agreement"]) if request.ablation else ()
    if told.n_words is not None:
        yield f"Words in {request.words} (in at least {request.min_prompts:,} prompts): {told.n_words:,}."
    if told.n_cues is not None:
        yield f"Words in {request.cues}: {told.n_cues:,}; {told.n_passed:,} that score higher may carry a fact and were passed over."


def _agreement_lines(told: dict[str, Any]) -> Iterator[str]:
    for what, figure, percent in (
        (
            "Rank correlation of gradient times input with ablation within a prompt",
            told["rank_correlation_with_ablation"]["gradient_times_input"],
            False,
        ),
        ("Words whose gradient and ablation have opposite signs", told["words_of_opposite_sign"], True),
        ("Prompts in which another word comes first", told["prompts_of_another_top_word"], True),
    ):
        yield f"{what}: {_figure(figure, percent)}."


def _figure(told: dict[str, Any], percent: bool) -> str:
    """A mean with its interval, or why there is none."""
    if told["mean"] is None or told["ci"] is None:
        return f"null ({told['reason']})"
    mean, low, high = (f"{100 * value:.0f} %" if percent else f"{value:.2f}" for value in (told["mean"], *told["ci"]))
    return f"{mean} (95 % interval {low} to {high})"
