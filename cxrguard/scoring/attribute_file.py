"""One table through the attribution, as ``cxrguard attribute`` does it: all outputs appear together at the end, or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from cxrguard.errors import BadInputError, CxrguardError
from cxrguard.pseudonym import load_key, pseudonym
from cxrguard.scoring.attribution import Attribution, Attributor
from cxrguard.scoring.cells import MadeBatch, finite, open_cell_writer
from cxrguard.scoring.cue_words import CueWords, check_ending, write_cues
from cxrguard.scoring.detectors import Draws
from cxrguard.scoring.launch import pick_device
from cxrguard.scoring.model import ScoringModel
from cxrguard.scoring.prompts import PromptTable, UniquePrompts, digest, prompt_table
from cxrguard.scoring.request import check_apart, check_paths
from cxrguard.scoring.score_file import ended_cleanly
from cxrguard.tables import PrivateOutput, Writer
from cxrguard.tables.progress import progress_bar

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
        check_paths(self.source, self.target)
        if self.cues:
            check_ending(self.cues)
            check_apart({"--prompts": self.source, "--out": self.target, "--cues": self.cues})


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
    try:
        with ExitStack() as stack:
            stack.enter_context(ended_cleanly())
            table = stack.enter_context(prompt_table(request.source, request.column))
            told = _Run(request, table, table.count()).write(stack)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CxrguardError(f"{request.target}: cannot be written ({reason}).") from None
    if told.n_cues == 0:
        raise CxrguardError(
            f"{request.cues}: not written, though {request.target} is: of the words that raise the score and that at least "
            f"{request.min_prompts} prompts share, the sanitizer may touch none ({told.n_passed:,} may carry a fact). "
            "Give more prompts, or a lower --min-prompts."
        )
    return told


class _Run:
    """Goes through the table once; of a prompt that comes again the attribution is kept until its last row."""

    def __init__(self, request: AttributeRequest, table: PromptTable, prompts: UniquePrompts) -> None:
        self._request, self._table = request, table
        self._told = Attributed(prompts)
        self._row = 0
        self._left = Counter(digest(text) for batch in table.batches() for text in batch.texts)
        self._kept: dict[bytes, Attribution] = {}
        self._cues = CueWords()
        self._key = b"" if request.show_words else load_key()
        self._attributor = Attributor(
            ScoringModel(request.model, device=pick_device()),
            request.draws,
            request.seed,
            ablation=request.ablation,
            batch_size=request.batch_size,
        )

    def write(self, stack: ExitStack) -> Attributed:
        request = self._request
        cues = stack.enter_context(PrivateOutput(request.cues)) if request.cues else None
        output = stack.enter_context(PrivateOutput(request.target))
        name = "text" if request.show_words else "text_hash"
        writer = open_cell_writer(request.target, output.file, "level", {name: str, **_SCORES})
        with progress_bar("Attributing", lambda: (self._row, self._told.prompts.rows), show=request.progress) as update:
            for batch in self._table.batches():
                self._write_rows(writer, batch.texts)
                update(self._row)
        writer.finish()
        if cues:
            self._write_cues(cues)
        outputs = [each for each in (cues if self._told.n_cues else None, output) if each]
        for step in (PrivateOutput.finish, PrivateOutput.commit):
            for each in outputs:
                step(each)
        return self._told

    def _write_cues(self, output: PrivateOutput) -> None:
        words, self._told.n_passed = self._cues.top(self._request.top_words, self._request.min_prompts)
        self._told.n_cues = len(words)
        write_cues(self._request.cues, output.file, words)

    def _write_rows(self, writer: Writer, texts: Sequence[str]) -> None:
        """Writes the pieces of some rows; what a prompt adds to the counts it adds once."""
        for start in range(0, len(texts), self._request.batch_size):
            some = texts[start : start + self._request.batch_size]
            self._attribute(some)
            for text in some:
                self._row += 1
                if text.strip() and (rows := list(self._rows(text, self._kept[digest(text)]))):
                    batch = MadeBatch(self._request.target, self._row, [], [row[:5] for row in rows], _FIRST)
                    writer.write(batch, [row[5:] for row in rows])
            self._forget(some)

    def _attribute(self, texts: Sequence[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text.strip() and digest(text) not in self._kept]
        for text, found in zip(new, self._attributor(new), strict=True):
            self._kept[digest(text)] = found
            self._cues.add(text, found)
            self._told.n_cut += found.cut

    def _forget(self, texts: Sequence[str]) -> None:
        for key in map(digest, texts):
            self._left[key] -= 1
            if self._left[key] < 0:
                raise BadInputError(f"{self._table.where}: changed while it was read. Run it again.")
            if not self._left[key]:
                self._kept.pop(key, None)

    def _rows(self, text: str, found: Attribution) -> Iterator[tuple[Any, ...]]:
        for piece in found.pieces:
            shown = text[piece.start : piece.end]
            name = shown if self._request.show_words else pseudonym(self._key, shown.lower())
            figures = (None if value is None else finite(value) for value in (piece.gradient, piece.gradient_times_input, piece.ablation))
            yield (self._row, piece.level, piece.index, piece.start, piece.end, name, *figures)


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
