"""Memory that the warden shares with its interpreters: what to run goes in, how it ended comes out.

No descriptor leads there, so nothing a program prints, writes or closes can pass for a result or prevent one. A program
that hunts the area down in its own memory forges nothing but its own result, which it could have had for the
printing: deadlines, limits and deaths are judged outside. One program at a time uses it, and it is wiped between two.
Standard library only: this runs inside the interpreters.
"""

from __future__ import annotations

import builtins
import contextlib
import marshal
import mmap
import os
from typing import Final, NamedTuple

globals()["__builtins__"] = dict(vars(builtins))  # a copy that no program can patch

UNPREPARED, RUNNING, OK, EXCEPTION, MEMORY, SYNTAX = range(6)
"""How far a program came. SYNTAX: not run, as its text does not compile."""

LEAVES, WAITS, RESTS = range(3)
"""What an interpreter does after its program: it leaves, it waits for its end, it waits for that or to go on."""

REASON_BYTES: Final = 4096
TRACEBACK_BYTES: Final = 32_768
_STATE, _NEXT, _ITSELF = range(3)
_REASON = 16
_COMMAND = _REASON + REASON_BYTES
COMMAND_BYTES: Final = 5 << 20
_TRACEBACK = _COMMAND + COMMAND_BYTES
_BYTES = _TRACEBACK + TRACEBACK_BYTES


class Command(NamedTuple):
    """What a fresh fork is to run: ``steps`` one after the other, the first of them from line ``line`` + 1 on.

    With ``tracebacks``, it tells at length how it failed.
    """

    line: int
    tracebacks: bool
    steps: list[str]


class Area:
    """The shared memory."""

    def __init__(self) -> None:
        self._file = os.memfd_create("area")
        os.ftruncate(self._file, _BYTES)
        self._map = mmap.mmap(self._file, _BYTES)
        self._used = 0

    def order(self, command: Command, itself: bool) -> None:
        """Write what is to be run, for a fork to read, or for an interpreter that rests to go on ``itself``.

        Raises ``ValueError`` when it is too long.
        """
        data = marshal.dumps(tuple(command))
        if len(data) > COMMAND_BYTES:
            raise ValueError(f"a program of {len(data)} bytes")
        self._used = _COMMAND + len(data)
        self._map[_COMMAND : self._used] = data
        self._map[_ITSELF] = itself

    @property
    def itself(self) -> bool:
        """Whether the interpreter that is told to go on is to run the command itself."""
        return self._map[_ITSELF] != 0

    def ordered(self) -> Command:
        """Read what is to be run."""
        return Command(*marshal.loads(memoryview(self._map)[_COMMAND:]))

    def begin(self) -> None:
        """Note that the program is about to start."""
        self._map[_STATE] = RUNNING

    def finish(self, state: int, reason: str, traceback: str, then: int) -> None:
        """Note how the program ended, and what its interpreter does next: ``LEAVES``, ``WAITS`` or ``RESTS``."""
        for text, start, size in ((reason, _REASON, REASON_BYTES), (traceback, _TRACEBACK, TRACEBACK_BYTES)):
            if text:
                data = text.encode("utf-8", "replace")[: size - 1]
                self._map[start : start + len(data) + 1] = data + b"\0"
        self._map[_NEXT] = then
        self._map[_STATE] = state

    @property
    def state(self) -> int:
        """How far the program says that it came."""
        return self._map[_STATE]

    @property
    def then(self) -> int:
        """What its interpreter says that it does next."""
        return self._map[_NEXT]

    @property
    def reason(self) -> bytes:
        """Why it ended."""
        return self._map[_REASON:_COMMAND].split(b"\0", 1)[0]

    @property
    def traceback(self) -> bytes:
        """How it failed, at length."""
        return self._map[_TRACEBACK:].split(b"\0", 1)[0]

    def wipe(self) -> None:
        """Leave nothing of one program for the next, wherever it wrote."""
        self._map[: self._used] = bytes(self._used)
        with contextlib.suppress(OSError):  # there is nothing
            os.lseek(self._file, -(-self._used // mmap.PAGESIZE) * mmap.PAGESIZE, os.SEEK_DATA)
            # A traceback, or something hostile. Not always: it takes longer the more interpreters rest.
            self._map.madvise(mmap.MADV_REMOVE)
