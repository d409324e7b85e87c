"""Sets held-out samples aside that steer the guard: never trained on, never judged, and no threshold of the audit rests on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cxrguard.data.canaries import CanaryPlan
from cxrguard.data.lazy import Selected
from cxrguard.data.records import ReportRecord
from cxrguard.errors import CxrguardError
from cxrguard.randomness import derive_seed


def keep_for_steering(plan: CanaryPlan, n: int, seed: int) -> CanaryPlan:
    """Move ``n`` samples at least from the held-out ones to :attr:`CanaryPlan.steering`, by whole patients, chosen by ``seed``.

    Raises:
        CxrguardError: too few are held out, or none would be left to judge with.

    """
    if n < 0:
        raise CxrguardError(f"canaries.n_steering must not be negative, but is {n}.")
    if not n:
        return plan
    chosen = _patients(plan.heldout, n, seed)
    steering = [r for r in plan.heldout if r.subject_id in chosen]
    rest = Selected(plan.heldout, (i for i, r in enumerate(plan.heldout) if r.subject_id not in chosen))
    if len(steering) < n or not rest:
        raise CxrguardError(
            f"canaries.n_steering={n} of {len(plan.heldout)} held-out samples (beside canaries and controls) leaves none to judge with. "
            "Lower it, plant fewer canaries or controls, or raise data.heldout_fraction."
        )
    return replace(plan, heldout=rest, steering=steering)


def _patients(records: Sequence[ReportRecord], n: int, seed: int) -> set[str]:
    """The first patients, in an order that is the seed's, that have ``n`` samples together."""
    count: dict[str, int] = {}
    for record in records:
        count[record.subject_id] = count.get(record.subject_id, 0) + 1
    chosen: set[str] = set()
    taken = 0
    for patient in sorted(count, key=lambda p: (derive_seed("steering-patient", seed, p), p)):
        if taken >= n:
            break
        chosen.add(patient)
        taken += count[patient]
    return chosen
