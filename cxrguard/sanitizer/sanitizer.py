"""The object that the configuration builds: prompts in, sanitized prompts and counts out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.vocab import Vocab

from cxrguard.errors import CxrguardError, ResidualMarkerError
from cxrguard.progress import progress_of
from cxrguard.sanitizer.cache import Edits, Outcome, OutcomeCache, fingerprint
from cxrguard.sanitizer.component import create_deid_sanitizer, read_settings  # noqa: F401  (registers without the entry point)
from cxrguard.sanitizer.markers import Markers, scan
from cxrguard.sanitizer.pipeline import TextSanitizer

# spaCy's tokenizer is quadratic on a run of signs and refuses lone surrogates with an error that holds the text: such a
# prompt takes the same function without a tokenizer.
_HOSTILE = re.compile(r"(?:[^\w\s]|_){16}|\S{100}|[\ud800-\udfff]")
_MAX_CHARS = 10_000
_CHUNK = 2_000  # prompts between two writes to the cache, so that an ended run keeps what it did
_STATUSES = ("edited", "emptied", "refused")
_POSITIONS_SHOWN = 10


@dataclass(frozen=True)
class SanitizeResult:
    """What became of a list of prompts; the lists are in its order.

    Attributes:
        prompts: Sanitized prompts, ``""`` where emptied or refused.
        statuses: ``unchanged``, ``edited``, ``emptied`` or ``refused``.
        counts: prompts, edited, emptied, refused, residual_markers (in the result: 0 unless the action is ``off``), and two
            dicts: by_rule (edits by the rule that made them) and by_convention (markers in the originals).
        edits: For each prompt {rule, action, start, end}, offsets into the original prompt, never text.

    """

    prompts: list[str] = field(repr=False)
    statuses: list[str]
    counts: dict[str, Any]
    edits: list[Edits] = field(default_factory=list)


@dataclass(frozen=True)
class _Known:
    """A prompt's outcome with what is counted of it."""

    outcome: Outcome
    residual: int
    markers: Markers


def _one_token(vocab: Vocab, text: str) -> Doc:
    """A Doc of the whole text: the component reads no token, and cutting a report into them takes longer than repairing it."""
    return Doc(vocab, words=[text] if text else [], spaces=[False] if text else [])


class PromptSanitizer:
    """Sanitizes prompts and checks batches.

    A prompt that occurs twice, or in a later call, is computed once. Which process or batch it is in changes nothing.

    Args:
        conventions: Names of marker conventions, see ``cxrguard/sanitizer/conventions/``, ``auto``, or paths of a user's own.
        action: What becomes of a marker, see :class:`~cxrguard.sanitizer.settings.SanitizerSettings`.
        cues: ``off``, ``canonicalize``, or the path of a cue list.
        priors: ``keep`` or ``drop`` references to earlier studies.
        on_refused: ``drop`` (the prompt becomes ``""`` and is counted) or ``raise``.
        complete: Whether a repair may write a closed-class word in a marker's place.
        seed: Of ``randomize`` and ``surrogate``.
        cache_dir: A folder for results by content hash, kept between runs (they are report text: mode 0600); None keeps
            them in memory only. It may be deleted at any time.

    Raises:
        CxrguardError: For an unknown convention, action or policy, or two that exclude each other.

    """

    def __init__(
        self,
        conventions: Sequence[str] | str,
        action: str | bool = "repair",
        cues: str | bool | None = "off",
        priors: str = "keep",
        on_refused: str = "drop",
        complete: bool = True,
        seed: int = 0,
        cache_dir: str | Path | None = None,
    ) -> None:
        self.settings = read_settings(conventions, action, cues, priors=priors, on_refused=on_refused, complete=complete, seed=seed)
        self.conventions, self.action = list(self.settings.conventions), self.settings.action
        # A refusal is raised here, where its position is known.
        quiet = replace(self.settings, on_refused="drop")
        self._core = TextSanitizer(quiet)
        self._nlp: Language | None = None
        self._cache = OutcomeCache(cache_dir, fingerprint(quiet)) if cache_dir else None
        self._memory: dict[str, _Known] = {}
        # Cue phrases and references to earlier studies need no marker to be changed.
        self._every_prompt = self.settings.cues != "off" or self.settings.priors == "drop"

    def __getstate__(self) -> dict[str, Any]:
        # A copy in a data loader's worker only checks batches: report text has no business there. spaCy's vocabulary holds words.
        return self.__dict__ | {"_memory": {}, "_nlp": None}

    def sanitize(self, prompts: Sequence[str]) -> SanitizeResult:
        """Sanitizes all prompts in one pass of ``nlp.pipe``; those without a marker do not pay for it.

        Raises:
            CxrguardError: For refused prompts if ``on_refused`` is ``raise``; names positions, never text.
            ResidualMarkerError: If what an action writes is itself a marker of one of the conventions.

        """
        found = ((prompt, scan(prompt, self._core.conventions)) for prompt in dict.fromkeys(prompts) if prompt not in self._memory)
        todo = [(prompt, markers) for prompt, markers in found if self._every_prompt or markers.spans]
        with progress_of("sanitizing prompts", len(todo)) as advance:
            for start in range(0, len(todo), _CHUNK):
                some = dict(todo[start : start + _CHUNK])
                self._learn(some)
                advance(len(some))
        # What is not known holds no marker and nothing else that could be changed.
        known = [self._memory.get(prompt) or _Known(Outcome(prompt, "unchanged", []), 0, Markers()) for prompt in prompts]
        self._check(known)
        return _result(known)

    def forget(self) -> None:
        """Let go of the prompts that were computed; a later call computes them again."""
        self._memory.clear()

    def _learn(self, prompts: dict[str, Markers]) -> None:
        found = self._cache.get(list(prompts)) if self._cache else {}
        computed = self._compute([prompt for prompt in prompts if prompt not in found])
        if self._cache:
            self._cache.put(computed)
        for prompt, outcome in (found | computed).items():
            # Counted anew even for what was kept on disk: no marker gets past by way of a file.
            self._memory[prompt] = _Known(outcome, self._core.residual(outcome.text), prompts[prompt])

    def _compute(self, prompts: list[str]) -> dict[str, Outcome]:
        if self.action == "off" and not self._every_prompt:
            return {prompt: Outcome(prompt, "unchanged", []) for prompt in prompts}
        tame = [prompt for prompt in prompts if len(prompt) <= _MAX_CHARS and not _HOSTILE.search(prompt)]
        nlp = self._pipeline()
        with nlp.memory_zone():  # what spaCy keeps of the texts goes with it
            docs = nlp.pipe(tame)
            outcomes = {
                prompt: Outcome(doc._.sanitized, doc._.sanitizer_status, doc._.sanitizer_edits)
                for prompt, doc in zip(tame, docs, strict=True)
            }
        for prompt in prompts:
            if prompt not in outcomes:
                result = self._core.sanitize(prompt)
                outcomes[prompt] = Outcome(result.text, result.status, [edit.as_dict() for edit in result.edits])
        return outcomes

    def _pipeline(self) -> Language:
        if self._nlp is None:
            self._nlp = spacy.blank("en", vocab=Vocab())
            self._nlp.tokenizer = partial(_one_token, self._nlp.vocab)
            component = self._nlp.add_pipe("deid_sanitizer", config=asdict(self._core.settings) | {"conventions": self.conventions})
            component.marks_spans = False  # type: ignore[attr-defined]
        return self._nlp

    def _check(self, known: list[_Known]) -> None:
        refused = [i for i, one in enumerate(known) if one.outcome.status == "refused"]
        if refused and self.settings.on_refused == "raise":
            raise CxrguardError(
                f"The sanitizer refused {len(refused)} of {len(known)} prompts (positions {_shown(refused)}): no repair of these is "
                "known to keep every fact. Look at them, or drop them with sanitizer.on_refused=drop."
            )
        left = [i for i, one in enumerate(known) if one.residual]
        if left and self.action != "off":
            raise ResidualMarkerError(
                f"{len(left)} of {len(known)} prompts (positions {_shown(left)}) still hold a marker after sanitizing with "
                f"action {self.action}: what it writes is itself a marker of {', '.join(self.conventions)}. "
                "Choose another sanitizer.action, or narrow your own convention file."
            )

    def gate(self, prompts: Sequence[str]) -> None:
        """Lets a batch pass only without markers; does nothing when the action is ``off``.

        Raises:
            ResidualMarkerError: Names positions in the batch and the number of markers, never text.

        """
        if self.action == "off":
            return
        found = {i: n for i, prompt in enumerate(prompts) if (n := self._core.residual(prompt))}
        if found:
            raise ResidualMarkerError(
                f"{sum(found.values())} de-identification marker(s) in {len(found)} of {len(prompts)} prompts of a batch "
                f"(positions {_shown(found)}). Sanitize prompts before batching, or choose sanitizer=off."
            )


def _result(known: list[_Known]) -> SanitizeResult:
    statuses = [one.outcome.status for one in known]
    rules: Counter[str] = Counter(str(edit["rule"]) for one in known for edit in one.outcome.edits)
    conventions: Counter[str] = Counter()
    for one in known:
        conventions.update(dict(one.markers.by_convention))
    counts: dict[str, Any] = {"prompts": len(known)} | {status: statuses.count(status) for status in _STATUSES}
    counts["residual_markers"] = sum(one.residual for one in known)
    counts |= {"by_rule": dict(sorted(rules.items())), "by_convention": dict(sorted(conventions.items()))}
    # Copies: a caller who changes its edits must not change those of a later call.
    return SanitizeResult([one.outcome.text for one in known], statuses, counts, [[*one.outcome.edits] for one in known])


def _shown(positions: Iterable[int]) -> str:
    found = [str(i) for i in positions]
    return ", ".join(found[:_POSITIONS_SHOWN]) + (", ..." if len(found) > _POSITIONS_SHOWN else "")
