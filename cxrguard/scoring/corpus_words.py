"""The corpus view: what each word adds to the scores of all prompts that have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from cxrguard.sanitizer.conventions import AUTO, find_markers, load_conventions
from cxrguard.scoring.attribution import WORD, Attribution, Piece
from cxrguard.scoring.cells import MadeBatch, finite
from cxrguard.scoring.clustered import ClusteredMean
from cxrguard.tables import open_writer

GRADIENT, PRODUCT, ABLATION = FIGURES = ("gradient", "gradient_times_input", "ablation")
_ROWS = 1000


@dataclass
class WordTally:
    """What is known of a word.

    Attributes:
        prompts: different prompts that have it.
        places: where it stands in them.
        marked: places that lie in a de-identification marker.
        opposite: places at which the signs of ``gradient_times_input`` and ``ablation`` are opposite.
        figures: by name, over the places that have one.

    """

    prompts: int = 0
    places: int = 0
    marked: int = 0
    opposite: int = 0
    figures: dict[str, ClusteredMean] = field(default_factory=lambda: {name: ClusteredMean() for name in FIGURES})

    @property
    def score(self) -> ClusteredMean:
        """What words are ranked by: the ablation where there is one, else the gradient times the input."""
        return self.figures[ABLATION] if self.figures[ABLATION].n else self.figures[PRODUCT]

    @property
    def is_marker(self) -> bool:
        """Whether the word is, or is part of, a marker at most of its places."""
        return 2 * self.marked > self.places

    @property
    def disagree(self) -> bool:
        """Whether one interval lies above 0 and the other below it: gradient and ablation contradict each other."""
        ends = [self.figures[name].interval for name in (PRODUCT, ABLATION)]
        known = [each for each in ends if each is not None]
        return len(known) == 2 and any(low > 0 for low, _ in known) and any(high < 0 for _, high in known)

    def add(self, pieces: Sequence[Piece], marked: int) -> None:
        """Takes the places of the word in one prompt, of which so many lie in markers."""
        self.prompts += 1
        self.places += len(pieces)
        self.marked += marked
        self.opposite += sum(opposite_signs(piece) for piece in pieces)
        for name, mean in self.figures.items():
            mean.add([value for piece in pieces if (value := getattr(piece, name)) is not None and finite(value) is not None])


def opposite_signs(piece: Piece) -> bool:
    """Whether gradient and ablation point opposite ways; not where one of them is 0 or is not there."""
    one, other = piece.gradient_times_input, piece.ablation
    return one is not None and other is not None and one * other < 0


class CorpusWords:
    """Adds up what words contribute, in lower case."""

    def __init__(self) -> None:
        self._words: dict[str, WordTally] = {}
        self._conventions = load_conventions([AUTO])

    def add(self, prompt: str, found: Attribution) -> None:
        """Counts the words of a prompt that was not met before."""
        markers, places = find_markers(prompt, self._conventions), dict[str, list[Piece]]()
        for piece in found.pieces:
            if piece.level == WORD:
                places.setdefault(prompt[piece.start : piece.end].lower(), []).append(piece)
        for word, pieces in places.items():
            marked = sum(any(piece.start < end and start < piece.end for start, end in markers) for piece in pieces)
            self._words.setdefault(word, WordTally()).add(pieces, marked)

    def ranked(self, min_prompts: int) -> list[tuple[str, WordTally]]:
        """Words that at least ``min_prompts`` prompts share, by mean attribution, the one that raises the score most first."""
        shared = [(word, tally) for word, tally in self._words.items() if tally.prompts >= min_prompts and tally.score.mean is not None]
        return sorted(shared, key=lambda item: (-(item[1].score.mean or 0.0), item[0]))

    def write(self, path: str, file: BinaryIO, min_prompts: int, named: Callable[[str], str], column: str) -> int:
        """Writes the ranked words, a row each, and says how many.

        Args:
            path: where to, for its format.
            file: the same, open.
            min_prompts: see :meth:`ranked`.
            named: what stands for a word: itself, or a keyed hash.
            column: the heading for that.

        """
        ranked = self.ranked(min_prompts)
        means = {f"{name}{end}": float for name in FIGURES for end in ("", "_low", "_high")}
        added: dict[str, type] = {"marker": bool, "prompts": int, "places": int, **means, "opposite_signs": float, "disagree": bool}
        writer = open_writer(path, file, column, tuple(added), tuple(added.values()))
        for start in range(0, max(1, len(ranked)), _ROWS):
            some = ranked[start : start + _ROWS]
            first = [(start + i, named(word)) for i, (word, _) in enumerate(some, start=1)]
            writer.write(MadeBatch(path, start + 1, [], first, ["rank", column]), [_cells(tally) for _, tally in some])
        writer.finish()
        return len(ranked)


def _cells(tally: WordTally) -> tuple[Any, ...]:
    compared = min(tally.figures[name].n for name in (PRODUCT, ABLATION))
    means = [each for name in FIGURES for each in _ends(tally.figures[name])]
    return (tally.is_marker, tally.prompts, tally.places, *means, tally.opposite / compared if compared else None, tally.disagree)


def _ends(mean: ClusteredMean) -> Iterator[float | None]:
    yield mean.mean
    yield from mean.interval or (None, None)
