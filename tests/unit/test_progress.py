"""Long work says how far it is and how long it still takes, short work nothing."""

from __future__ import annotations

from multiprocessing import current_process
from typing import Any

import pytest

from cxrguard import progress as module
from cxrguard.progress import progress_of, shown


class Clock:
    """A second each time it is looked at, from the start."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


def run(monkeypatch: pytest.MonkeyPatch, step: float, total: int = 200, at_once: int = 4) -> None:
    monkeypatch.setattr(module, "time", Clock(step))
    with progress_of("encoding images", total) as advance:
        for _ in range(0, total, at_once):
            advance(at_once)


def test_short_work_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, 0.05)
    assert capsys.readouterr().out == ""


def test_a_line_every_tenth_with_the_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, 10.0)
    lines = capsys.readouterr().out.splitlines()
    assert (
        len(lines) == 10 and lines[0] == "encoding images: 20 of 200, 8 min left" and lines[-1] == "encoding images: 200 of 200, 0 s left"
    )


def test_a_bar_on_a_terminal_only_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys.stdout, "isatty", lambda: True, raising=False)
    calls: list[Any] = []
    for name in ("start", "stop", "advance"):
        monkeypatch.setattr(module.Progress, name, lambda self, *a, name=name: calls.append(name))
    run(monkeypatch, 0.05)
    assert set(calls) == {"advance"}
    calls.clear()
    run(monkeypatch, 3.0)
    assert calls.count("start") == calls.count("stop") == 1 and calls.count("advance") == 50


def test_jobs_that_share_a_terminal_draw_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys.stdout, "isatty", lambda: True, raising=False)
    assert module.can_draw()
    monkeypatch.setattr(current_process(), "name", "LokyProcess-1")
    assert not module.can_draw()


def test_items_come_unchanged_and_are_counted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "time", Clock(10.0))
    assert list(shown("reading rows", (n * n for n in range(20)), 20)) == [n * n for n in range(20)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("reading rows: 2 of 20, ") and lines[-1] == "reading rows: 20 of 20, 0 s left" and len(lines) == 10
    monkeypatch.setattr(module, "time", Clock(0.001))
    assert list(shown("reading rows", [1, 2, 3])) == [1, 2, 3] and list(shown("reading rows", [])) == []
    assert capsys.readouterr().out == ""


def test_items_left_in_the_middle_leave_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(module, "time", Clock(10.0))
    calls: list[str] = []
    for name in ("start", "stop"):
        monkeypatch.setattr(module.Progress, name, lambda self, name=name: calls.append(name))
    with pytest.raises(ZeroDivisionError):
        for n in shown("reading rows", range(3, -1, -1)):
            1 / n
    assert calls == ["start", "stop"]
