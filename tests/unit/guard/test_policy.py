"""The guard's rules: when they act, when they rearm, what they may look at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrguard.errors import CxrguardError
from cxrguard.guard.policy import Policy, Rule


def rate(value: float | None) -> dict:
    return {"step": 0, "extraction_rate": value, "detectors": {"text_noise_norm": {"auc": 0.7}}}


def acted(policy: Policy, values: list[float | None]) -> list[bool]:
    return [bool(policy.decide(rate(value))) for value in values]


def test_acts_once_and_rearms_below_clear():
    policy = Policy({"r": Rule("extraction_rate", above=0.5, clear=0.2, action="warn")})
    assert acted(policy, [0.4, 0.6, 0.9, 0.3, 0.6, 0.2, 0.6]) == [False, True, False, False, False, False, True]


def test_needs_so_many_rounds_in_a_row():
    policy = Policy({"r": Rule("extraction_rate", above=0.1, rounds=2, action="stop")})
    assert acted(policy, [0.2, 0.0, 0.2, 0.2, 0.2]) == [False, False, False, True, False]


def test_a_round_is_quiet_when_no_rule_is_on_its_way():
    policy = Policy({"r": Rule("extraction_rate", above=0.1, rounds=2, action="roll_back")})
    quiet = []
    for value in (0.0, 0.2, 0.2, 0.0):
        policy.decide(rate(value))
        quiet.append(policy.quiet)
    assert quiet == [True, False, False, True]


def test_a_figure_that_could_not_be_had_changes_nothing():
    policy = Policy({"r": Rule("extraction_rate", above=0.1, rounds=2, action="stop")})
    assert acted(policy, [0.2, None, 0.2]) == [False, False, True]


def test_a_figure_that_no_round_has_is_told():
    with pytest.raises(CxrguardError, match=r"guard.policy.r.signal=canary_17"):
        Policy({"r": Rule("canary_17", above=0, action="warn")}).decide(rate(0.0))


def test_detectors_by_name_and_the_mildest_first():
    rules = {
        "hard": Rule("detectors.text_noise_norm.auc", above=0.6, action="stop"),
        "soft": Rule("extraction_rate", above=0.0, action="warn"),
        "none": None,
    }
    decided = Policy(rules).decide(rate(0.25))
    assert [(d.rule, d.action, d.figure) for d in decided] == [("soft", "warn", 0.25), ("hard", "stop", 0.7)]
    assert decided[0].entry(40) == {"step": 40, "action": "warn", "rule": "soft", "signal": "extraction_rate", "figure": 0.25}


@given(st.lists(st.floats(0, 1), max_size=30), st.integers(0, 30))
def test_goes_on_after_a_resume_as_if_nothing_had_been(values, cut):
    def make() -> Policy:
        return Policy({"r": Rule("extraction_rate", above=0.5, clear=0.3, rounds=2, action="lower_rate")})

    straight, first, second = make(), make(), make()
    expected = acted(straight, values)
    begun = acted(first, values[:cut])
    second.load_state_dict(first.state_dict())
    assert begun + acted(second, values[cut:]) == expected


@pytest.mark.parametrize(
    "wrong",
    [{"action": "explode"}, {"action": "warn", "clear": 0.9}, {"action": "warn", "rounds": 0}, {"action": "lower_rate", "factor": 2.0}],
)
def test_settings_that_make_no_sense_are_told(wrong):
    with pytest.raises(CxrguardError):
        Rule("extraction_rate", above=0.5, **wrong)


def test_stops_early_on_the_canaries_exposure():
    policy = Policy({"r": Rule("detectors.text_noise_norm.exposure", above=3.0, clear=2.0, rounds=2, action="stop")})
    rounds = [{"detectors": {"text_noise_norm": {"auc": 0.7, "exposure": bits}}} for bits in (1.4, 3.2, 3.5)]
    assert [[d.action for d in policy.decide(row)] for row in rounds] == [[], [], ["stop"]]
