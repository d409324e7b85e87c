"""Rewrites memorization cues, off by default: boilerplate becomes plain words, listed phrases go. Facts stay.

``canonicalize`` reads its table from ``canonicalize.yaml`` beside this file; a path is a token list as token attribution writes it.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.conventions import MARK
from cxrguard.sanitizer.cues.grammar import mend
from cxrguard.sanitizer.cues.rules import CueRule, canonical_rules
from cxrguard.sanitizer.cues.token_list import load_token_list
from cxrguard.sanitizer.fact_check import keeps_facts

_log = logging.getLogger(__name__)

# A list number or a header is no part of the sentence that a rule sees.
_HEAD = re.compile(r"\s*(?:(?:\d{1,2}[.)]|[-*•])[ \t]+)?(?:[A-Z][A-Z ]{2,30}:\s{1,4})?")
_MAX_SENTENCE = 2000
_MAX_ROUNDS = 20


class CueRewriter:
    """Rewrites single sentences.

    Args:
        source: ``off``, ``canonicalize``, or the path of a token list (``.txt``, ``.csv``, ``.jsonl``, ``.json``).
        strict: A line of a list that may not be used is an error; else it is skipped, counted in :attr:`refused` and logged.

    Attributes:
        refused: A message for each line that was skipped: file, line and reason, never the phrase.

    Raises:
        CxrguardError: For a source that is none of these, or a file that cannot be read or holds nothing usable.

    """

    def __init__(self, source: str, *, strict: bool = False) -> None:
        self.source = source
        self.refused: tuple[str, ...] = ()
        self._rules: tuple[CueRule, ...] = ()
        if source == "canonicalize":
            self._rules = canonical_rules()
        elif source != "off":
            self._rules, self.refused = load_token_list(Path(source))
            self._report(strict)

    def _report(self, strict: bool) -> None:
        if self.refused and (strict or not self._rules):
            more = f" (and {len(self.refused) - 1} more)" if len(self.refused) > 1 else ""
            raise CxrguardError(self.refused[0] + more)
        if self.refused:
            _log.warning("%s Skipped %d such line(s); %d are used.", self.refused[0], len(self.refused), len(self._rules))

    def rewrite(self, sentence: str) -> tuple[str, tuple[str, ...]]:
        """Rewrites one sentence until no rule changes it any more.

        Args:
            sentence: One sentence. One that holds a marker or is longer than 2,000 characters is left alone.

        Returns:
            The new sentence and the names of the rules that changed it, in order. A change that the fact check refuses is not made.

        """
        if not self._rules or MARK in sentence or len(sentence) > _MAX_SENTENCE:
            return sentence, ()
        found = _HEAD.match(sentence)
        head = found.group() if found else ""
        body = sentence[len(head) :]
        core, tail = body.rstrip(), body[len(body.rstrip()) :]
        new, names = self._to_fixpoint(core)
        return head + new + tail, names

    def _to_fixpoint(self, sentence: str) -> tuple[str, tuple[str, ...]]:
        names: list[str] = []
        new = sentence
        for _ in range(_MAX_ROUNDS):
            before = new
            for rule in self._rules:
                rewritten = rule.apply(new)
                changed = None if rewritten == new else mend(rewritten, new)
                if changed and changed != new and keeps_facts(new, changed):
                    new = changed
                    names.append(rule.name)
            if new == before:
                return new, tuple(names)
        # Rules that chase each other: no change is the only one that is idempotent.
        return sentence, ()


__all__ = ["CueRewriter"]
