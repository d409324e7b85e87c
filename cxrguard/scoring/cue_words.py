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
from cxrguard.scoring.cells import MadeBatch
from cxrguard.scoring.corpus_words import CorpusWords
from cxrguard.tables import open_writer

ENDINGS = (".txt", ".csv", ".jsonl", ".json")
_CHECKED = 5000


def check_ending(path: str) -> None:
    """Raises CxrguardError unless ``path`` can be a cue file."""
    if not path.lower().endswith(ENDINGS):
        raise CxrguardError(f"{path}: a cue file ends in {', '.join(ENDINGS)}.")


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


def top_cues(words: CorpusWords, n: int, min_prompts: int) -> tuple[list[CueWord], int]:
    """The ``n`` words that raise the score most, of those that at least ``min_prompts`` prompts share and the sanitizer may touch.

    Returns:
        The words, best first, and how many with a higher score were passed over, since they may carry a fact.

    """
    shared = [CueWord(word, tally.prompts, tally.score.mean or 0.0) for word, tally in words.ranked(min_prompts)]
    ranked = [cue for cue in shared if cue.score > 0][:_CHECKED]
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
