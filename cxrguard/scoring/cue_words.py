"""From an attribution to the sanitizer's list of cues: the words that raise the score most, where enough prompts share them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cxrguard.errors import CxrguardError
from cxrguard.files import write_private
from cxrguard.sanitizer.cues.token_list import load_token_list
from cxrguard.scoring.attribution import Attribution
from cxrguard.scoring.cells import MadeBatch, finite
from cxrguard.tables import open_writer

ENDINGS = (".txt", ".csv", ".jsonl", ".json")
_CHECKED = 5000


def check_ending(path: str) -> None:
    """Raises CxrguardError unless ``path`` can be a cue file."""
    if not path.lower().endswith(ENDINGS):
        raise CxrguardError(f"{path}: a cue file ends in {', '.join(ENDINGS)}.")


@dataclass
class _Tally:
    """What is known of a word."""

    total: float = 0.0
    n: int = 0
    prompts: int = 0


@dataclass(frozen=True)
class CueWord:
    """A word that may go.

    Attributes:
        word: in lower case.
        prompts: different prompts that have it.
        score: its mean over all places where it stands.

    """

    word: str = field(repr=False)
    prompts: int
    score: float


class CueWords:
    """Adds up what words contribute: their ablation where there is one, else the gradient times the input."""

    def __init__(self) -> None:
        self._words: dict[str, _Tally] = {}

    def add(self, prompt: str, found: Attribution) -> None:
        """Counts the words of a prompt that was not met before."""
        seen = set()
        for piece in found.pieces:
            score = piece.ablation if piece.ablation is not None else piece.gradient_times_input
            if piece.level != "word" or score is None or finite(score) is None:
                continue
            word = prompt[piece.start : piece.end].lower()
            tally = self._words.setdefault(word, _Tally())
            tally.total += score
            tally.n += 1
            tally.prompts += word not in seen
            seen.add(word)

    def top(self, n: int, min_prompts: int) -> tuple[list[CueWord], int]:
        """The ``n`` words that raise the score most, of those that at least ``min_prompts`` prompts share and the sanitizer may touch.

        Returns:
            The words, best first, and how many with a higher score were passed over, since they may carry a fact.

        """
        shared = [CueWord(word, t.prompts, t.total / t.n) for word, t in self._words.items() if t.prompts >= min_prompts and t.total > 0]
        ranked = sorted(shared, key=lambda cue: (-cue.score, cue.word))[:_CHECKED]
        usable = _usable([cue.word for cue in ranked])
        places = [i for i, free in enumerate(usable) if free][:n]
        passed = places[-1] + 1 - len(places) if places else len(ranked)
        return [ranked[i] for i in places], passed


def _usable(words: Sequence[str]) -> list[bool]:
    """Which words the sanitizer takes from a list; it is asked itself."""
    if not words:
        return []
    with tempfile.TemporaryDirectory() as folder:
        path = write_private(Path(folder) / "words.jsonl", "".join(json.dumps({"word": word}) + "\n" for word in words))
        rules, _ = load_token_list(path)
    lines = {int(rule.name.rpartition("_")[2]) for rule in rules}
    return [line in lines for line in range(1, len(words) + 1)]


def write_cues(path: str, file: BinaryIO, cues: Sequence[CueWord]) -> None:
    """Writes a list as :func:`cxrguard.sanitizer.cues.token_list.load_token_list` reads it."""
    if path.lower().endswith((".txt", ".json")):
        words = [cue.word for cue in cues]
        text = json.dumps(words, ensure_ascii=False) + "\n" if path.lower().endswith(".json") else "".join(f"{word}\n" for word in words)
        file.write(text.encode())
        return
    writer = open_writer(path, file, "word", ("prompts", "score"), (int, float))
    writer.write(MadeBatch(path, 1, [], [(cue.word,) for cue in cues], ["word"]), [(cue.prompts, cue.score) for cue in cues])
    writer.finish()
