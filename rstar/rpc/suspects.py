"""Which program killed the executor: the candidates of one call as a pure state machine.

When an executor is lost while it runs candidates, each of them is a suspect: any of them may have killed it. A suspect
is sent once more, alone. If that copy is lost too, the candidate is CRASHED and never runs a third time. So a program
that kills its executor costs two executors, and the other candidates get their results. A slow copy is hedged in the
same way, candidate by candidate, and the first answer wins. INTERNAL, the answer of an executor that lost only the
interpreter of a program, counts as a loss of that program alone.

Not covered: a program hit by two unrelated losses one after the other is CRASHED although it did nothing wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rstar.interfaces import Execution, ExecutionStatus

COPIES: Final = 2
"""How often a program runs at most, whatever happens to its executors."""


class Suspects:
    """The candidates of one call, by position: how many copies of each were made, how many are open, and the results.

    A group is the candidates of one copy. ``given_up`` are the candidates that ended as CRASHED.
    """

    def __init__(self, candidates: int) -> None:
        self._made = [1] * candidates
        self._open = [1] * candidates
        self._results: list[Execution | None] = [None] * candidates
        self._missing = candidates
        self.given_up: list[int] = []

    @property
    def done(self) -> bool:
        """Whether every candidate has its result."""
        return not self._missing

    def results(self) -> list[Execution]:
        """Return the result of every candidate, in order; they must be ``done``."""
        return [result for result in self._results if result is not None]

    def needs(self, group: Iterable[int]) -> bool:
        """Return whether an answer to a copy of ``group`` would still give a result."""
        return any(self._results[i] is None for i in group)

    def answered(self, group: Sequence[int], executions: Sequence[Execution]) -> list[int]:
        """Record the answer to a copy of ``group``. Returns the candidates to send again, alone."""
        again = []
        for i, execution in zip(group, executions, strict=True):
            self._open[i] -= 1
            if execution.status is ExecutionStatus.INTERNAL:
                again += self._retry_or_give_up(i, f"its executor failed while it ran: {execution.reason}")
            else:
                self._settle(i, execution)
        return again

    def lost(self, group: Sequence[int], reason: str) -> list[int]:
        """Record that the executor was lost with a copy of ``group``. Returns the candidates to send again, alone."""
        again = []
        for i in group:
            self._open[i] -= 1
            again += self._retry_or_give_up(i, f"its executor was lost while it ran: {reason}")
        return again

    def slow(self, group: Sequence[int]) -> list[int]:
        """Record that a copy of ``group`` is slow. Returns the candidates to send again, alone."""
        late = [i for i in group if self._results[i] is None and self._made[i] < COPIES]
        for i in late:
            self._add_copy(i)
        return late

    def undelivered(self, group: Sequence[int]) -> bool:
        """Record that no executor took a copy of ``group``. Returns whether another copy of each may still answer."""
        for i in group:
            self._open[i] -= 1
        return all(self._open[i] or self._results[i] is not None for i in group)

    def _retry_or_give_up(self, i: int, reason: str) -> list[int]:
        if self._results[i] is not None:
            return []
        if self._made[i] < COPIES:
            self._add_copy(i)
            return [i]
        if not self._open[i]:
            self.given_up.append(i)
            self._settle(i, Execution(ExecutionStatus.CRASHED, reason=f"given up after {COPIES} tries; {reason}"))
        return []

    def _add_copy(self, i: int) -> None:
        self._made[i] += 1
        self._open[i] += 1

    def _settle(self, i: int, execution: Execution) -> None:
        if self._results[i] is None:
            self._results[i] = execution
            self._missing -= 1
