"""Who killed the executor: the bookkeeping of one call's candidates, as a pure state machine.

An executor that is lost while it runs some candidates makes each of them a suspect, for one of them may have done it.
A suspect is sent once more, alone; if that copy is lost too, the candidate is CRASHED, and nobody runs it a third time.
So a program that kills its executor costs two executors, and the others of its batch get their results. A copy that
is slow to answer is doubled in the same way (a hedge), and the first answer wins. INTERNAL, which an executor answers
for a program under which its interpreter was lost, is a loss of that program alone.

The price: a program that two unrelated accidents hit one after the other is called CRASHED, innocent. The module
refuses to send anything, and to know where copies go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rstar.interfaces import Execution, ExecutionStatus

COPIES: Final = 2
"""How often a program is run at most, whatever happens to its executors."""


class Suspects:
    """The candidates of one call, by position: how many copies of each were made, how many are open, and the results.

    ``given_up`` are those that were called CRASHED.
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

    def wants(self, group: Iterable[int]) -> bool:
        """Say whether a copy of ``group`` is still of use."""
        return any(self._results[i] is None for i in group)

    def answered(self, group: Sequence[int], executions: Sequence[Execution]) -> list[int]:
        """Take the answer to a copy of ``group``. Returns who must be sent again, alone."""
        again = []
        for i, execution in zip(group, executions, strict=True):
            self._open[i] -= 1
            if execution.status is ExecutionStatus.INTERNAL:
                again += self._suspect(i, f"its executor failed while it ran: {execution.reason}")
            else:
                self._settle(i, execution)
        return again

    def lost(self, group: Sequence[int], reason: str) -> list[int]:
        """Take note that the executor went away with a copy of ``group``. Returns who must be sent again, alone."""
        again = []
        for i in group:
            self._open[i] -= 1
            again += self._suspect(i, f"its executor was lost while it ran: {reason}")
        return again

    def slow(self, group: Sequence[int]) -> list[int]:
        """Take note that a copy of ``group`` should have answered by now. Returns who may be sent again, alone."""
        late = [i for i in group if self._results[i] is None and self._made[i] < COPIES]
        for i in late:
            self._copy(i)
        return late

    def undelivered(self, group: Sequence[int]) -> bool:
        """Take note that a copy of ``group`` reached nobody. Says whether another copy of each may still answer."""
        for i in group:
            self._open[i] -= 1
        return all(self._open[i] or self._results[i] is not None for i in group)

    def _suspect(self, i: int, reason: str) -> list[int]:
        if self._results[i] is not None:
            return []
        if self._made[i] < COPIES:
            self._copy(i)
            return [i]
        if not self._open[i]:
            self.given_up.append(i)
            self._settle(i, Execution(ExecutionStatus.CRASHED, reason=f"given up after {COPIES} tries; {reason}"))
        return []

    def _copy(self, i: int) -> None:
        self._made[i] += 1
        self._open[i] += 1

    def _settle(self, i: int, execution: Execution) -> None:
        if self._results[i] is None:
            self._results[i] = execution
            self._missing -= 1
