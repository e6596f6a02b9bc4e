"""Results of programs that ran before, least recently used first to go.

Programs are deterministic by contract: fixed seeds, an empty environment, an empty directory. So a result is a
function of the program and its limits, and the search, which comes by the same prefix again and again, need not
wait for it twice. Only ``ok`` and ``exception`` are kept: every other status may be the machine's doing. The clock is
the exception that proves the rule: a program that prints the time gets the time of its first run.
"""

from __future__ import annotations

from collections import OrderedDict

from rstar.interfaces import Execution, ExecutionLimits
from rstar_executor.programs import REPEATABLE, digest

_ENTRY_BYTES = 512  # key, tuple, strings' heads, place in the table


class Cache:
    """At most ``capacity`` bytes of results; 0 keeps none."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._size = 0
        self._entries: OrderedDict[tuple[bytes, ExecutionLimits], Execution] = OrderedDict()

    def get(self, program: str, limits: ExecutionLimits) -> Execution | None:
        """Return the result of ``program`` under ``limits`` if it is still known."""
        if not self._entries:
            return None
        key = _key(program, limits)
        execution = self._entries.get(key)
        if execution is not None:
            self._entries.move_to_end(key)
        return execution

    def put(self, program: str, limits: ExecutionLimits, execution: Execution) -> None:
        """Remember a result, as far as it is worth remembering."""
        weight = _weight(execution)
        if execution.status not in REPEATABLE or weight > self._capacity:
            return
        key = _key(program, limits)
        if (previous := self._entries.pop(key, None)) is not None:
            self._size -= _weight(previous)
        self._entries[key] = execution
        self._size += weight
        while self._size > self._capacity:
            self._size -= _weight(self._entries.popitem(last=False)[1])


def _key(program: str, limits: ExecutionLimits) -> tuple[bytes, ExecutionLimits]:
    return digest(program), limits


def _weight(execution: Execution) -> int:
    # Four bytes are the most that a character takes.
    return _ENTRY_BYTES + 4 * (len(execution.stdout) + len(execution.reason))
