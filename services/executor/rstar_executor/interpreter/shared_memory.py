"""Memory shared by the warden and its interpreters: the command goes in, the result comes out.

No descriptor leads to it, so nothing a program prints, writes or closes can forge or suppress a result. A program that
finds this memory in its own address space can forge only its own result, which it could also have printed: deadlines,
limits and exits are judged outside. One program at a time uses the memory, and it is wiped after each.
Standard library only.
"""

from __future__ import annotations

import builtins
import contextlib
import marshal
import mmap
import os
from typing import Final, NamedTuple

globals()["__builtins__"] = dict(vars(builtins))  # a copy that no program can patch

NOT_STARTED, RUNNING, OK, EXCEPTION, MEMORY, SYNTAX = range(6)
"""State of a program. SYNTAX: it does not compile, so none of it was run."""

EXIT, AWAIT_KILL, AWAIT_FORK = range(3)
"""What an interpreter does after its program: exit, wait to be killed, or wait to be killed or forked."""

REASON_BYTES: Final = 4096
TRACEBACK_BYTES: Final = 32_768
_STATE, _NEXT_ACTION, _EXIT_CODE = range(3)
_REASON = 16
_COMMAND = _REASON + REASON_BYTES
COMMAND_BYTES: Final = 5 << 20
_TRACEBACK = _COMMAND + COMMAND_BYTES
_BYTES = _TRACEBACK + TRACEBACK_BYTES


class Command(NamedTuple):
    """Steps for an interpreter to run in order; the first starts at line ``line`` + 1 of the program.

    ``tracebacks``: report a failure with its traceback; ``script``: run the one step as ``python program.py`` does, with
    tracebacks on standard error and an exit code.
    """

    line: int
    tracebacks: bool
    steps: list[str]
    script: bool = False


class SharedMemory:
    """The shared memory; mapped before any fork, and so inherited."""

    def __init__(self) -> None:
        self._file = os.memfd_create("rstar-executor")
        os.ftruncate(self._file, _BYTES)
        self._map = mmap.mmap(self._file, _BYTES)
        self._used = 0

    def write_command(self, command: Command) -> None:
        """Write the command for the process that is resumed next. Raises ``ValueError`` when it is too long."""
        data = marshal.dumps(tuple(command))
        if len(data) > COMMAND_BYTES:
            raise ValueError(f"a program of {len(data)} bytes")
        self._used = _COMMAND + len(data)
        self._map[_COMMAND : self._used] = data

    def read_command(self) -> Command:
        """Read the command."""
        return Command(*marshal.loads(memoryview(self._map)[_COMMAND:]))

    def begin(self) -> None:
        """Record that the program starts."""
        self._map[_STATE] = RUNNING

    def finish(self, state: int, reason: str, traceback: str, next_action: int, exit_code: int = 0) -> None:
        """Record how the program ended, and what its interpreter does next: EXIT, AWAIT_KILL or AWAIT_FORK."""
        for text, start, size in ((reason, _REASON, REASON_BYTES), (traceback, _TRACEBACK, TRACEBACK_BYTES)):
            if text:
                data = text.encode("utf-8", "replace")[: size - 1]
                self._map[start : start + len(data) + 1] = data + b"\0"
        self._map[_EXIT_CODE] = exit_code
        self._map[_NEXT_ACTION] = next_action
        self._map[_STATE] = state

    @property
    def state(self) -> int:
        """State of the program, as the program claims."""
        return self._map[_STATE]

    @property
    def exit_code(self) -> int:
        """Exit code of a script, from 0 to 255, as the program claims."""
        return self._map[_EXIT_CODE]

    @property
    def next_action(self) -> int:
        """What the interpreter claims to do next."""
        return self._map[_NEXT_ACTION]

    @property
    def reason(self) -> bytes:
        """One line that says why the program failed."""
        return self._map[_REASON:_COMMAND].split(b"\0", 1)[0]

    @property
    def traceback(self) -> bytes:
        """The traceback of its failure."""
        return self._map[_TRACEBACK:].split(b"\0", 1)[0]

    def wipe(self) -> None:
        """Erase everything that one program wrote, wherever it wrote."""
        self._map[: self._used] = bytes(self._used)
        with contextlib.suppress(OSError):  # raised when no page beyond the command was written
            os.lseek(self._file, -(-self._used // mmap.PAGESIZE) * mmap.PAGESIZE, os.SEEK_DATA)
            # A traceback or hostile data. Only on demand: the call takes longer with every paused interpreter.
            self._map.madvise(mmap.MADV_REMOVE)
