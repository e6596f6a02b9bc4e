"""States for tests of executors, which look at the steps and the problem's id alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rstar.interfaces import State

START: Final = State("", "", ())


HEAVY: Final = "# import numpy\n"
"""Text that makes the executor choose the heavy zygote, whose programs get snapshots; it runs nothing."""


def after(steps: Sequence[str], problem_id: str = "") -> State:
    """Return the state after ``steps``."""
    return State(problem_id, "", tuple(steps))
