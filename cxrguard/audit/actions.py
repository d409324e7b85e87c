"""What the guard did, in short: what was held back, over all looks, apart from single events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

HOLD_BACK = "hold_back"


@dataclass(frozen=True)
class HeldBack:
    """One mitigation over a run.

    Attributes:
        by: its name.
        looks: times that it had held something back since the look before.
        mean: share of the samples held back, over these looks.
        most: the largest share of one of them.
        first: step of the first.
        last: of the last.

    """

    by: str
    looks: int
    mean: float
    most: float
    first: int
    last: int


def held_back(actions: Sequence[Any]) -> list[HeldBack]:
    """Each mitigation that held samples back, in the order in which they first did."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for action in actions:
        if is_held_back(action):
            by_name.setdefault(str(action["by"]), []).append(action)
    return [_of(name, each) for name, each in by_name.items()]


def events(actions: Sequence[Any]) -> list[Any]:
    """All other actions."""
    return [action for action in actions if not is_held_back(action)]


def is_held_back(action: Any) -> bool:
    """Whether it is an entry of samples that were held back, with all that such an entry has."""
    return isinstance(action, dict) and action.get("action") == HOLD_BACK and {"by", "share", "step"} <= action.keys()


def _of(name: str, actions: Sequence[dict[str, Any]]) -> HeldBack:
    shares, steps = [float(a["share"]) for a in actions], [int(a["step"]) for a in actions]
    return HeldBack(name, len(actions), sum(shares) / len(shares), max(shares), min(steps), max(steps))
