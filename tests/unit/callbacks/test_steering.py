"""When the mitigations are calibrated."""

from callbacks.steering import is_due


def test_oftener_at_first_then_regularly():
    assert [step for step in range(1, 301) if is_due(step, 100)] == [5, 10, 20, 40, 80, 100, 200, 300]
    assert [step for step in range(1, 9) if is_due(step, 2)] == [2, 4, 6, 8]
    assert [step for step in range(1, 13) if is_due(step, 6)] == [5, 6, 12]
