"""One table through the attribution, as ``cxrguard attribute`` does it: all outputs appear together at the end, or none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from cxrguard.errors import CxrguardError
from cxrguard.pseudonym import load_key, pseudonym
from cxrguard.scoring.attribution import Attribution, Attributor
from cxrguard.scoring.by_row import found_by_row
from cxrguard.scoring.cells import MadeBatch, finite
from cxrguard.scoring.cue_words import CueWords, check_ending, write_cues
from cxrguard.scoring.detectors import Draws
from cxrguard.scoring.launch import pick_device
from cxrguard.scoring.model import ScoringModel
from cxrguard.scoring.prompts import PromptTable, UniquePrompts, prompt_table
from cxrguard.scoring.request import check_paths
from cxrguard.tables import PrivateOutput, commit_all, open_output, open_writer, told_of
from cxrguard.tables.progress import progress_bar
from cxrguard.termination import ended_cleanly

_FIRST = ["row", "level", "index", "start", "end"]
_SCORES: dict[str, type] = {"gradient": float, "gradient_times_input": float, "ablation": float}


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
        seed: of the noise.
        ablation: whether each word is left out in turn.
        show_words: write tokens and words, not keyed hashes.
        cues: where the sanitizer's list goes, or "".
        top_words: its words at most.
        min_prompts: different prompts that a word of it is in, at least.
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
    seed: int = 0
    ablation: bool = True
    show_words: bool = False
    cues: str = ""
    top_words: int = 20
    min_prompts: int = 20
    progress: bool = False

    def __post_init__(self) -> None:
        if self.cues:
            check_ending(self.cues)
        check_paths(self.source, self.target, {"--cues": self.cues})


@dataclass
class Attributed:
    """What a run did.

    Attributes:
        prompts: rows, repeats and empty prompts.
        n_cut: prompts longer than the encoder.
        n_cues: words in the cue file, None if none was asked for.
        n_passed: words that scored higher and may carry a fact.

    """

    prompts: UniquePrompts
    n_cut: int = 0
    n_cues: int | None = None
    n_passed: int = 0


def attribute_file(request: AttributeRequest) -> Attributed:
    """Attributes a table; see :class:`AttributeRequest`.

    Raises:
        CxrguardError: For a model or a table that cannot be used; then nothing is written. For a cue file that would hold no word.

    """
    with told_of(request.target), ended_cleanly(), prompt_table(request.source, request.column) as table:
        told = _Run(request, table).write()
    if told.n_cues == 0:
        raise CxrguardError(
            f"{request.cues}: not written, though {request.target} is: of the words that raise the score and that at least "
            f"{request.min_prompts} prompts share, the sanitizer may touch none ({told.n_passed:,} may carry a fact). "
            "Give more prompts, or a lower --min-prompts."
        )
    return told


class _Run:
    """Goes through the table."""

    def __init__(self, request: AttributeRequest, table: PromptTable) -> None:
        self._request, self._table = request, table
        self._told = Attributed(table.count())
        self._cues = CueWords()
        self._key = b"" if request.show_words else load_key()
        self._attributor = Attributor(
            ScoringModel(request.model, device=pick_device()),
            request.draws,
            request.seed,
            ablation=request.ablation,
            batch_size=request.batch_size,
        )

    def write(self) -> Attributed:
        with ExitStack() as stack:
            cues = open_output(stack, self._request.cues) if self._request.cues else None
            output = open_output(stack, self._request.target)
            self._write_pieces(output)
            if cues:
                self._write_cues(cues)
            commit_all([each for each in (cues if self._told.n_cues else None, output) if each])
        return self._told

    def _write_pieces(self, output: PrivateOutput) -> None:
        request, done = self._request, 0
        name = "text" if request.show_words else "text_hash"
        added = {name: str, **_SCORES}
        writer = open_writer(request.target, output.file, "level", tuple(added), tuple(added.values()))
        with progress_bar("Attributing", lambda: (done, self._told.prompts.rows), show=request.progress) as update:
            for done, text, found in found_by_row(self._table, request.batch_size, self._attribute):
                rows = list(self._rows(done, text, found)) if found else []
                if rows:
                    writer.write(MadeBatch(request.target, done, [], [row[:5] for row in rows], _FIRST), [row[5:] for row in rows])
                update(done)
        writer.finish()

    def _attribute(self, texts: Sequence[str]) -> list[Attribution]:
        """What a prompt adds to the counts it adds once."""
        found = self._attributor(texts)
        for text, attribution in zip(texts, found, strict=True):
            self._cues.add(text, attribution)
            self._told.n_cut += attribution.cut
        return found

    def _rows(self, row: int, text: str, found: Attribution) -> Iterator[tuple[Any, ...]]:
        for piece in found.pieces:
            shown = text[piece.start : piece.end]
            name = shown if self._request.show_words else pseudonym(self._key, shown.lower())
            figures = (None if value is None else finite(value) for value in (piece.gradient, piece.gradient_times_input, piece.ablation))
            yield (row, piece.level, piece.index, piece.start, piece.end, name, *figures)

    def _write_cues(self, output: PrivateOutput) -> None:
        words, self._told.n_passed = self._cues.top(self._request.top_words, self._request.min_prompts)
        self._told.n_cues = len(words)
        write_cues(self._request.cues, output.file, words)


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
    if told.n_cues is not None:
        yield f"Words in {request.cues}: {told.n_cues:,}; {told.n_passed:,} that score higher may carry a fact and were passed over."
