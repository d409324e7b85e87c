"""Splits by patient: all records of one patient land together."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence

from cxrguard.data.lazy import Selected
from cxrguard.data.records import ReportRecord
from cxrguard.errors import CxrguardError
from cxrguard.randomness import derive_seed


def split_by_patient(records: Sequence[ReportRecord], fractions: Mapping[str, float], seed: int) -> dict[str, Selected[ReportRecord]]:
    """Assign every patient to a split by a hash of (seed, patient), so that adding patients never moves others.

    Args:
        records: any records; their order is kept within a split.
        fractions: the expected share of patients by split, summing to 1; names and order of the result.
        seed: another seed gives another split.

    Returns:
        The records by split, as views of ``records``; empty where no patient fell.

    """
    if not fractions or any(not 0 <= share <= 1 for share in fractions.values()) or not math.isclose(sum(fractions.values()), 1):
        raise CxrguardError(f"Split fractions must lie between 0 and 1 and sum to 1, not {dict(fractions)}.")
    numbers = {name: array("q") for name in fractions}
    for number, record in enumerate(records):
        numbers[_split_of(record.subject_id, fractions, seed)].append(number)
    return {name: Selected(records, some) for name, some in numbers.items()}


def _split_of(subject_id: str, fractions: Mapping[str, float], seed: int) -> str:
    position = derive_seed("split", seed, subject_id) / 2**63
    bound, name = 0.0, ""
    for candidate, share in fractions.items():
        if share == 0:
            continue
        bound, name = bound + share, candidate
        if position < bound:
            break
    return name  # the last one where rounding leaves the sum of the shares just under 1
