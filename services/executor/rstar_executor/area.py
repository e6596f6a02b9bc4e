"""Memory that the warden shares with its interpreters: what to run goes in, how it ended comes out.

No descriptor leads there, so nothing a program prints, writes or closes can pass for a result or prevent one. A program
that hunts the area down in its own memory forges nothing but its own result, which it could have had for the
printing: deadlines, limits and deaths are judged outside. One program at a time uses it, and it is wiped between two.
Standard library only: this runs inside the interpreters.
"""

from __future__ import annotations

import builtins
import marshal
import mmap
from typing import Final, NamedTuple

from rstar_executor.sandbox.limits import Limits

globals()["__builtins__"] = dict(vars(builtins))  # a copy that no program can patch

UNPREPARED, RUNNING, OK, EXCEPTION, MEMORY, SYNTAX = range(6)
"""How far a program came. SYNTAX: not run, as its text does not compile."""

REASON_BYTES: Final = 4096
_STATE, _RESTS = 0, 1
_REASON = 16
_COMMAND = _REASON + REASON_BYTES
COMMAND_BYTES: Final = 5 << 20


class Command(NamedTuple):
    """What a fresh fork is to run: ``steps`` one after the other, the first of them from line ``line`` + 1 on."""

    limits: Limits
    own_bytes: int
    line: int
    rest: bool
    steps: list[str]


class Area:
    """The shared memory."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, _COMMAND + COMMAND_BYTES)

    def order(self, command: Command) -> None:
        """Write what is to be run, for the next fork to read. Raises ``ValueError`` when it is too long."""
        data = marshal.dumps((tuple(command.limits), *command[1:]))
        if len(data) > COMMAND_BYTES:
            raise ValueError(f"a program of {len(data)} bytes")
        self._map[_COMMAND : _COMMAND + len(data)] = data

    def ordered(self) -> Command:
        """Read what is to be run."""
        limits, own_bytes, line, rest, steps = marshal.loads(memoryview(self._map)[_COMMAND:])
        return Command(Limits(*limits), own_bytes, line, rest, steps)

    def begin(self) -> None:
        """Note that the program is about to start."""
        self._map[_STATE] = RUNNING

    def finish(self, state: int, reason: str, rests: bool) -> None:
        """Note how the program ended; ``rests``: its interpreter waits to go on from here."""
        if reason:
            data = reason.encode("utf-8", "replace")[: REASON_BYTES - 1]
            self._map[_REASON : _REASON + len(data) + 1] = data + b"\0"
        self._map[_RESTS] = rests
        self._map[_STATE] = state

    @property
    def state(self) -> int:
        """How far the program says that it came."""
        return self._map[_STATE]

    @property
    def rests(self) -> bool:
        """Whether its interpreter says that it waits."""
        return self._map[_RESTS] != 0

    @property
    def reason(self) -> bytes:
        """Why it ended."""
        return self._map[_REASON : _REASON + REASON_BYTES].split(b"\0", 1)[0]

    def wipe(self) -> None:
        """Leave nothing of one program for the next, wherever it wrote."""
        self._map.madvise(mmap.MADV_REMOVE)
