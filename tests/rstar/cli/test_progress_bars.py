"""Progress of long commands on standard error, at a terminal and without one."""

from __future__ import annotations

import io
import sys

import pytest

from rstar.cli import progress_bars as module
from rstar.cli.progress_bars import Lines, progress_bars
from tests.support.local.bench import eventually


class Stream(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def shown_lines(stream: Stream) -> list[str]:
    """Return the lines without their times."""
    return [line.partition(" ")[2] for line in stream.getvalue().splitlines()]


def test_without_a_terminal_lines_say_how_far_the_work_is_also_before_its_first_part_is_done(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream(terminal=False)
    monkeypatch.setattr(sys, "stderr", stream)
    lines = Lines()
    lines.write()
    lines("greedy", 0, 8)
    lines.write()
    clock.now += 12
    lines("greedy", 3, 8)
    lines.write()
    clock.now += 20
    lines("greedy", 8, 8)
    lines.write()
    assert shown_lines(stream) == ["greedy 0/8", "greedy 3/8, 0:20 left", "greedy 8/8, 0:00 left"]


def test_without_a_terminal_lines_are_written_while_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(terminal=False)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(module, "PROGRESS_SECONDS", 0.01)
    with progress_bars() as shown:
        shown("greedy", 1, 8)
        eventually(lambda: "greedy 1/8" in stream.getvalue())
        shown("greedy", 8, 8)
    assert shown_lines(stream)[-1] == "greedy 8/8, 0:00 left"


def test_work_that_ends_soon_writes_nothing_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(terminal=False)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(module, "PROGRESS_SECONDS", 3_600.0)
    with progress_bars() as shown:
        for done in range(4):
            shown("verify", done, 3)
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_that_is_removed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(terminal=True)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bars() as shown:
        shown("greedy", 0, 8)
        shown("greedy", 8, 8)
    text = stream.getvalue()
    assert "greedy" in text
    assert "100%" in text
    assert text.endswith("\x1b[2K")
