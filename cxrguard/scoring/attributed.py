"""Writes what an attribution has found: tokens and words by row, the words of all prompts, the cues, the summary; all or none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cxrguard.errors import BadInputError
from cxrguard.files import finite_or_null
from cxrguard.pseudonym import load_key, pseudonym
from cxrguard.scoring.agreement import Agreement
from cxrguard.scoring.attribution import Attribution
from cxrguard.scoring.by_row import found_by_row
from cxrguard.scoring.cells import MadeBatch, finite
from cxrguard.scoring.corpus_words import CorpusWords
from cxrguard.scoring.cue_words import top_cues, write_cues
from cxrguard.scoring.pieces import PieceDirectory
from cxrguard.scoring.prompts import PromptTable, UniquePrompts
from cxrguard.tables import PrivateOutput, commit_all, open_output, open_writer

if TYPE_CHECKING:
    from cxrguard.scoring.attribute_file import AttributeRequest

_FIRST = ["row", "level", "index", "start", "end"]
_SCORES: dict[str, type] = {"gradient": float, "gradient_times_input": float, "ablation": float}


@dataclass
class Attributed:
    """What a run did.

    Attributes:
        prompts: rows, repeats and empty prompts.
        n_cut: prompts longer than the encoder.
        n_words: words in the corpus view, None if none was asked for.
        n_cues: words in the cue file, likewise.
        n_passed: words that scored higher and may carry a fact.
        summary: plain types.

    """

    prompts: UniquePrompts
    n_cut: int = 0
    n_words: int | None = None
    n_cues: int | None = None
    n_passed: int = 0
    summary: dict[str, Any] = field(default_factory=dict)


class AttributedFiles:
    """Goes through the table once more, now that every prompt is attributed.

    Args:
        request: what was asked for.
        table: the prompts.
        prompts: their numbers.
        work: their attributions.

    """

    def __init__(self, request: AttributeRequest, table: PromptTable, prompts: UniquePrompts, work: PieceDirectory) -> None:
        self._request, self._table, self._prompts, self._work = request, table, prompts, work
        self._told = Attributed(prompts)
        self._words, self._agreement = CorpusWords(), Agreement()
        self._key = b"" if request.show_words else load_key()

    def write(self) -> Attributed:
        """Writes everything.

        Raises:
            CxrguardError: If something cannot be written, or the table has changed.

        """
        request = self._request
        with ExitStack() as stack:
            paths = (request.cues, request.words, request.summary, request.target)
            cues, words, summary, output = (open_output(stack, path) if path else None for path in paths)
            assert output is not None
            self._write_pieces(output)
            if cues:
                self._write_cues(cues)
            if words:
                self._told.n_words = self._words.write(request.words, words.file, request.min_prompts, self._named, self._column("word"))
            self._told.summary = self._summary()
            if summary:
                summary.file.write((json.dumps(finite_or_null(self._told.summary), indent=2, allow_nan=False) + "\n").encode())
            commit_all([each for each in (cues if self._told.n_cues else None, words, summary, output) if each])
        return self._told

    def _column(self, name: str) -> str:
        return name if self._request.show_words else f"{name}_hash"

    def _named(self, shown: str) -> str:
        return shown if self._request.show_words else pseudonym(self._key, shown.lower())

    def _write_pieces(self, output: PrivateOutput) -> None:
        added = {self._column("text"): str, **_SCORES}
        target = self._request.target
        writer = open_writer(target, output.file, "level", tuple(added), tuple(added.values()))
        for row, text, found in found_by_row(self._table, self._request.batch_size, self._learn):
            rows = list(self._rows(row, text, found)) if found else []
            if rows:
                writer.write(MadeBatch(target, row, [], [cells[:5] for cells in rows], _FIRST), [cells[5:] for cells in rows])
        writer.finish()

    def _rows(self, row: int, text: str, found: Attribution) -> Iterator[tuple[Any, ...]]:
        for piece in found.pieces:
            figures = (None if value is None else finite(value) for value in (piece.gradient, piece.gradient_times_input, piece.ablation))
            yield (row, piece.level, piece.index, piece.start, piece.end, self._named(text[piece.start : piece.end]), *figures)

    def _learn(self, texts: Sequence[str]) -> list[Attribution]:
        """What a prompt adds to the counts it adds once."""
        try:
            found = [self._work.attribution(number) for text in texts if (number := self._prompts.number(text)) is not None]
        except KeyError:
            raise BadInputError(f"{self._table.where}: changed while it was attributed. Run it again.") from None
        for text, attribution in zip(texts, found, strict=True):
            self._words.add(text, attribution)
            self._agreement.add(attribution)
            self._told.n_cut += attribution.cut
        return found

    def _write_cues(self, output: PrivateOutput) -> None:
        words, self._told.n_passed = top_cues(self._words, self._request.top_words, self._request.min_prompts)
        self._told.n_cues = len(words)
        write_cues(self._request.cues, output.file, words)

    def _summary(self) -> dict[str, Any]:
        request, prompts = self._request, self._prompts
        agreement = self._agreement.told()
        return {
            "steps": request.draws.steps,
            "seeds": request.draws.seeds,
            "seed": request.seed,
            "ablation": request.ablation,
            "prompts": {"rows": prompts.rows, "different": len(prompts), "empty": prompts.empty, "cut": self._told.n_cut},
            "sections": agreement.pop("sections"),
            "agreement": agreement if request.ablation else {"reason": "not asked for (--no-ablation)"},
        }
