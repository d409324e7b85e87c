"""The sanitizer over all prompts of a study, some at a time, so that memory does not depend on how many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cxrguard.data.records import ReportRecord
from cxrguard.sanitizer.sanitizer import PromptSanitizer

_AT_ONCE = 4096


def sanitized(records: Sequence[ReportRecord], sanitizer: PromptSanitizer, counts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(sanitized prompt, status) of each record, in order; what was counted is added to ``counts`` as they come."""
    for start in range(0, len(records), _AT_ONCE):
        result = sanitizer.sanitize([record.prompt for record in records[start : start + _AT_ONCE]])
        sanitizer.forget()
        _add(counts, result.counts)
        yield from zip(result.prompts, result.statuses, strict=True)


def _add(total: dict[str, Any], more: dict[str, Any]) -> None:
    """Sums, also of the counts in a dictionary within; the names there stay sorted."""
    for name, value in more.items():
        if isinstance(value, dict):
            within = total.setdefault(name, {})
            _add(within, value)
            total[name] = dict(sorted(within.items()))
        else:
            total[name] = total.get(name, 0) + value
