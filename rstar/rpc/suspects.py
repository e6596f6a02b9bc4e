"""Which program killed the executor: the candidates of one call as a pure state machine.

When an executor is lost while it runs candidates, each of them is a suspect: any of them may have killed it. A suspect
is sent once more, alone. If that copy is lost too, the candidate is CRASHED and never runs a third time. So a program
that kills its executor costs two executors, and the other candidates get their results. INTERNAL, the answer of an
executor that lost only the interpreter of a program, counts as a loss of that program alone.

Not covered: a program hit by two unrelated losses one after the other is CRASHED although it did nothing wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rstar.interfaces import Execution, ExecutionStatus

COPIES: Final = 2
"""How often a program runs at most, whatever happens to its executors."""


class Suspects:
    """The candidates of one call, by position: how many copies of each were made, and the results.

    A group is the candidates of one copy; a candidate is in one open copy at most. ``given_up`` are the candidates that
    ended as CRASHED.
    """

    def __init__(self, candidates: int) -> None:
        self._made = [1] * candidates
        self._results: dict[int, Execution] = {}
        self.given_up: list[int] = []

    @property
    def done(self) -> bool:
        """Whether every candidate has its result."""
        return len(self._results) == len(self._made)

    def results(self) -> list[Execution]:
        """Return the result of every candidate, in order; they must be ``done``."""
        return [self._results[i] for i in range(len(self._made))]

    def answered(self, group: Sequence[int], executions: Sequence[Execution]) -> list[int]:
        """Record the answer to a copy of ``group``. Returns the candidates to send again, alone."""
        again = []
        for i, execution in zip(group, executions, strict=True):
            if execution.status is ExecutionStatus.INTERNAL:
                again += self._retry_or_give_up(i, f"its executor failed while it ran: {execution.reason}")
            else:
                self._results[i] = execution
        return again

    def lost(self, group: Sequence[int], reason: str) -> list[int]:
        """Record that the executor was lost with a copy of ``group``. Returns the candidates to send again, alone."""
        again = []
        for i in group:
            again += self._retry_or_give_up(i, f"its executor was lost while it ran: {reason}")
        return again

    def _retry_or_give_up(self, i: int, reason: str) -> list[int]:
        if self._made[i] < COPIES:
            self._made[i] += 1
            return [i]
        self.given_up.append(i)
        self._results[i] = Execution(ExecutionStatus.CRASHED, reason=f"given up after {COPIES} tries; {reason}")
        return []
