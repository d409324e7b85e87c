"""Plants canaries: records of held-out patients that are trained on a known number of times, and their controls.

They are the ground truth of every figure of the audit, so canaries, controls and ordinary members differ in nothing but
how often they are trained on: the same source of patients (canaries, controls) and the same form of prompt (all).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from operator import attrgetter

import numpy as np

from cxrguard.data.lazy import Joined, Keep, Mapped, Selected
from cxrguard.data.prompt_form import POOL, Decoration, PromptForm
from cxrguard.data.records import ReportRecord
from cxrguard.errors import CxrguardError
from cxrguard.randomness import derive_seed


@dataclass
class CanaryPlan:
    """Who is trained on and who is not. All prompts are decorated.

    Attributes:
        members: ordinary training records, each once an epoch.
        canaries: planted records, one image a patient.
        repeats: how often an epoch shows each canary.
        controls: never trained on, one image a patient.
        heldout: the other records of patients that are neither canary nor control; never trained on.
        prompt_controls: controls that are only prompts: a held-out report under a decoration of its own; their image is nobody's.
        arms: in a study of the marker itself the arm of each canary and each control, by group; else empty.
        steering: what a guard sets its thresholds with; see :mod:`cxrguard.data.steering`.
        copies: near-duplicates of canaries that stand for their repeats, each once an epoch; empty where repeats are exact.
        copy_of: which canary each is of.

    """

    members: Sequence[ReportRecord] = field(repr=False)
    canaries: list[ReportRecord] = field(repr=False)
    repeats: list[int]
    controls: list[ReportRecord] = field(repr=False)
    heldout: Sequence[ReportRecord] = field(repr=False)
    prompt_controls: list[ReportRecord] = field(default_factory=list, repr=False)
    arms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    steering: list[ReportRecord] = field(default_factory=list, repr=False)
    copies: list[ReportRecord] = field(default_factory=list, repr=False)
    copy_of: list[int] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The canaries' share of the samples drawn in an epoch."""
        drawn = sum(self.repeats)
        return drawn / (drawn + len(self.members)) if drawn else 0.0


def plant_canaries(
    train: Sequence[ReportRecord],
    heldout: Sequence[ReportRecord],
    n: int,
    repeats: int | Sequence[int],
    n_controls: int,
    form: PromptForm,
    seed: int,
    max_share: float = 0.25,
    n_prompt_controls: int = 0,
    keep: Keep = list,
) -> CanaryPlan:
    """Take canaries and controls from the held-out patients and give every prompt the study's form.

    Args:
        train: the ordinary members.
        heldout: records of other patients.
        n: canaries.
        repeats: times an epoch shows each canary: one number, or ``n`` of them.
        n_controls: controls.
        form: draws the decorations.
        seed: chooses the patients, and the image of each.
        max_share: the largest share of canaries among the samples drawn; above it the unconditional model learns them.
        n_prompt_controls: controls that are only prompts, of the same form; they take no patient away.
        keep: keeps the decorated members and held-out records.

    Raises:
        CxrguardError: the counts do not go together; says which and what would.

    """
    times = _repeats(n, repeats)
    _check_share(times, len(train), max_share)
    chosen, rest = _choose(train, heldout, n, n_controls, seed)
    drawn = form.draw(len(train), len(chosen) + n_prompt_controls, len(rest))
    _check_covered(drawn.planted[:n], drawn.members)
    reports = _reports(Joined(chosen[n:], rest), n_prompt_controls)
    planted = list(_decorate([*chosen, *reports], drawn.planted))
    plan = CanaryPlan(
        keep(_decorate(train, drawn.members)),
        planted[:n],
        times,
        planted[n : len(chosen)],
        keep(_decorate(rest, drawn.heldout)),
        planted[len(chosen) :],
        _arms(form, n, n_controls),
    )
    check_unique({name: _prompts(getattr(plan, name)) for name in ("canaries", "controls", "members", "prompt_controls")})
    return plan


def _arms(form: PromptForm, n: int, n_controls: int) -> dict[str, tuple[str, ...]]:
    if not form.arms:
        return {}
    arms = tuple(form.arm_of_planted(i) for i in range(n + n_controls))
    return {"canaries": arms[:n], "controls": arms[n:]}


def _reports(unseen: Sequence[ReportRecord], count: int) -> list[ReportRecord]:
    """``count`` records whose reports controls borrow, each as often as the next: never one that was trained on."""
    if count < 0:
        raise CxrguardError(f"canaries.n_prompt_controls must not be negative, but is {count}.")
    if count and not unseen:
        raise CxrguardError("canaries.n_prompt_controls borrow the reports of controls, and there are none; raise canaries.n_controls.")
    return [unseen[i % len(unseen)] for i in range(count)]


def _decorate(records: Sequence[ReportRecord], decorations: Sequence[Decoration]) -> Iterator[ReportRecord]:
    return (r.with_prompt(d.apply(r.prompt)) for r, d in zip(records, decorations, strict=True))


def _prompts(records: Sequence[ReportRecord]) -> Sequence[str]:
    return Mapped(records, attrgetter("prompt"))


def _repeats(n: int, repeats: int | Sequence[int]) -> list[int]:
    if n < 0:
        raise CxrguardError(f"canaries.n must not be negative, but is {n}.")
    times = [repeats] * n if isinstance(repeats, int) else list(repeats)
    if len(times) != n:
        raise CxrguardError(f"canaries.repeats lists {len(times)} numbers for {n} canaries. Give one number, or {n} (canaries.n).")
    if any(not isinstance(time, int) or time < 1 for time in times):
        raise CxrguardError("canaries.repeats must be whole numbers of at least 1.")
    return times


def _check_share(times: list[int], n_members: int, max_share: float) -> None:
    if not 0 < max_share <= 1:
        raise CxrguardError(f"canaries.max_share must lie above 0 and not above 1, but is {max_share}.")
    drawn, limit = sum(times), Fraction(str(max_share))
    if not drawn or Fraction(drawn, drawn + n_members) <= limit:
        return
    members = math.ceil(drawn * (1 - limit) / limit)
    fewer = math.floor(n_members * limit / (1 - limit))
    raise CxrguardError(
        f"Canaries would be {drawn / (drawn + n_members):.1%} of the samples drawn ({drawn} repeats beside {n_members} members); "
        f"canaries.max_share is {max_share:g}. Use at least {members} members, or at most {fewer} repeats in all "
        f"({fewer // len(times)} for each of {len(times)} canaries)."
    )


def _choose(
    train: Sequence[ReportRecord], heldout: Sequence[ReportRecord], n: int, n_controls: int, seed: int
) -> tuple[list[ReportRecord], Sequence[ReportRecord]]:
    """Return (one record of each of ``n + n_controls`` held-out patients, all records of the other patients)."""
    if n_controls < 0:
        raise CxrguardError(f"canaries.n_controls must not be negative, but is {n_controls}.")
    by_patient: dict[str, list[int]] = {}
    for number, record in enumerate(heldout):
        by_patient.setdefault(record.subject_id, []).append(number)
    shared = {record.subject_id for record in train if record.subject_id in by_patient}
    if shared:
        raise CxrguardError(f"{len(shared)} patients are both in the training and in the held-out records. Split by patient.")
    if len(by_patient) < n + n_controls:
        raise CxrguardError(
            f"{n} canaries and {n_controls} controls need {n + n_controls} held-out patients, but there are {len(by_patient)}. "
            "Raise data.heldout_fraction, or use fewer canaries or controls."
        )
    # by hash, not by position: the order of the table does not matter
    order = sorted(by_patient, key=lambda patient: (derive_seed("canary-patient", seed, patient), patient))
    picked = order[: n + n_controls]
    images = [[heldout[number] for number in by_patient[p]] for p in picked]
    chosen = [min(some, key=lambda r: (derive_seed("canary-image", seed, r.dicom_id), r.dicom_id)) for some in images]
    taken = {number for p in picked for number in by_patient[p]}
    return chosen, Selected(heldout, (number for number in range(len(heldout)) if number not in taken))


def _check_covered(canaries: Sequence[Decoration], members: Sequence[Decoration]) -> None:
    """A canary must not be known by a word, lead or clinical tail that no ordinary member has."""

    def parts(decorations: Sequence[Decoration]) -> set[tuple[str, str]]:
        found = {("lead", d.lead) for d in decorations} | {("clinical", d.clinical) for d in decorations}
        return found | {(f"own{i}", word) for d in decorations for i, word in enumerate(d.own)}

    alone = parts(canaries) - parts(members)
    if alone:
        raise CxrguardError(
            f"{len(alone)} parts of the canaries' prompts occur in none of the {len(members)} ordinary members' prompts, "
            f"which would give the canaries away. {POOL} members are always enough."
        )


def check_unique(groups: Mapping[str, Sequence[Hashable]], what: str = "prompts") -> None:
    """Check that all items, within and across groups, are pairwise distinct.

    Args:
        groups: the items by group, e.g. ``{"canaries": [...], "controls": [...], "members": [...]}``; prompts, sanitized
            prompts, or tuples of token ids.
        what: what they are, for the message.

    Raises:
        CxrguardError: counts by pair of groups, never the items.

    """
    names, sizes = list(groups), [len(items) for items in groups.values()]
    total = sum(sizes)
    digests = np.fromiter((_digest(item) for items in groups.values() for item in items), "S16", total)
    group = np.repeat(np.arange(len(names)), sizes)
    _, first, which = np.unique(digests, return_index=True, return_inverse=True)
    owner = group[first][which]  # the first group that has the item
    clashes = Counter((names[a], names[b]) for a, b in zip(owner[owner != group], group[owner != group], strict=True))
    for number, name in enumerate(names):
        repeated = sizes[number] - len(np.unique(which[group == number]))
        if repeated:
            clashes[name, name] += repeated
    if clashes:
        pairs = "; ".join(f"{count} within {a}" if a == b else f"{count} of {b} equal one of {a}" for (a, b), count in clashes.items())
        raise CxrguardError(
            f"{total - len(first)} of {total} {what} are not unique ({pairs}), so a replay could not be traced to one sample. "
            "Check that the sanitizer keeps the prompts' own tails and that the encoder's length does not cut them."
        )


def _digest(item: Hashable) -> bytes:
    """16 bytes that stand for an item, which may be a report."""
    return blake2b(repr(item).encode("utf-8", "surrogatepass"), digest_size=16).digest()
