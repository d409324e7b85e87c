"""Rules over the audit stream, pure: a round of figures goes in, what to do comes out.

The stream holds rates over groups, never which sample is a canary, so no rule can act on one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cxrguard.audit.record import lookup
from cxrguard.errors import CxrguardError

ACTIONS = ("warn", "lower_rate", "roll_back", "stop")
"""From the mildest. ``roll_back`` takes back the weights of the last round in which no rule was active, and stops."""


@dataclass(frozen=True)
class Rule:
    """When a figure of the audit stream lies above a limit for some rounds, act once; rearm when it has come down.

    Attributes:
        signal: dotted path into a round of the stream, e.g. ``extraction_rate`` or ``detectors.text_noise_norm.auc``.
        above: the limit; the figure must lie above it.
        action: one of :data:`ACTIONS`.
        clear: the rule rearms once the figure is at or below this; ``above`` where not given. Between the two nothing changes.
        rounds: rounds in a row that must lie above before it acts.
        factor: of ``lower_rate``: what the learning rate is multiplied with.

    Raises:
        CxrguardError: a setting makes no sense.

    """

    signal: str
    above: float
    action: str
    clear: float | None = None
    rounds: int = 1
    factor: float = 0.5

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise CxrguardError(f"a rule of the guard knows the actions {', '.join(ACTIONS)}, not {self.action!r}")
        if self.clear is not None and self.clear > self.above:
            raise CxrguardError(f"a rule's clear={self.clear:g} must not lie above its above={self.above:g}")
        if self.rounds < 1 or not 0 < self.factor < 1:
            raise CxrguardError(f"a rule needs rounds >= 1 and a factor between 0 and 1, not {self.rounds} and {self.factor:g}")

    @property
    def cleared(self) -> float:
        """Where it rearms."""
        return self.above if self.clear is None else self.clear


@dataclass(frozen=True)
class Decision:
    """What one rule says of a round: ``figure`` is what it saw."""

    rule: str
    action: str
    signal: str
    figure: float
    factor: float

    def entry(self, step: int) -> dict[str, Any]:
        """As it stands in the audit's ``actions``."""
        more = {"factor": self.factor} if self.action == "lower_rate" else {}
        return {"step": step, "action": self.action, "rule": self.rule, "signal": self.signal, "figure": round(self.figure, 4), **more}


class Policy:
    """Some rules with their memory.

    Args:
        rules: by name; those that are None are left out.

    """

    def __init__(self, rules: Mapping[str, Rule | None]) -> None:
        self.rules = {name: rule for name, rule in rules.items() if rule is not None}
        self._rounds = dict.fromkeys(self.rules, 0)
        self._active = dict.fromkeys(self.rules, False)

    @property
    def quiet(self) -> bool:
        """Whether no rule is active or on its way to be: such a round's weights may be gone back to."""
        return not any(self._active.values()) and not any(self._rounds.values())

    def decide(self, row: Mapping[str, Any]) -> list[Decision]:
        """What is to be done after a round, the mildest first.

        Raises:
            CxrguardError: a rule asks for a figure that no round has.

        """
        found = [self._judge(name, rule, row) for name, rule in self.rules.items()]
        return sorted((d for d in found if d is not None), key=lambda d: ACTIONS.index(d.action))

    def _judge(self, name: str, rule: Rule, row: Mapping[str, Any]) -> Decision | None:
        figure = _figure(name, rule, row)
        if figure is None:  # not defined in this round: nothing is known, and nothing changes
            return None
        if figure <= rule.cleared:
            self._rounds[name], self._active[name] = 0, False
        elif figure > rule.above:
            self._rounds[name] += 1
        if self._active[name] or self._rounds[name] < rule.rounds:
            return None
        self._active[name] = True
        return Decision(name, rule.action, rule.signal, figure, rule.factor)

    def state_dict(self) -> dict[str, Any]:
        """The rules' memory."""
        return {"rounds": dict(self._rounds), "active": dict(self._active)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`state_dict`; a rule that is new starts without a memory."""
        for mine, then in ((self._rounds, state["rounds"]), (self._active, state["active"])):
            mine.update({name: then[name] for name in mine if name in then})


def _figure(name: str, rule: Rule, row: Mapping[str, Any]) -> float | None:
    parent, _, last = rule.signal.rpartition(".")
    holder = lookup(dict(row), parent) if parent else row
    if not isinstance(holder, Mapping) or last not in holder:
        raise CxrguardError(
            f"guard.policy.{name}.signal={rule.signal} is no figure of a probe round; there are extraction_rate, spillover_rate, "
            "heldout_loss, and detectors.NAME.auc and detectors.NAME.exposure of each detector on the schedule"
        )
    figure = holder[last]
    return None if figure is None else float(figure)
