"""From what was seen of a program to its status: a pure function on plain data.

Standard library only: this runs inside the warden. It refuses to believe a program where the kernel says otherwise,
and never answers ``internal``: that is retried elsewhere, and a program could ask for it.
"""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

from rstar_executor.interpreter import shared_memory
from rstar_executor.sandbox.limits import Limits

STATUSES = ("ok", "exception", "timeout", "memory", "output_limit", "crashed", "internal")
OK, EXCEPTION, TIMEOUT, MEMORY, OUTPUT_LIMIT, CRASHED, INTERNAL = range(len(STATUSES))

_FROM_NOTE = {
    shared_memory.OK: OK,
    shared_memory.EXCEPTION: EXCEPTION,
    shared_memory.SYNTAX: EXCEPTION,
    shared_memory.MEMORY: MEMORY,
}


class Seen(NamedTuple):
    """What the warden saw: what it did to the program (a status, OK for nothing), how it ended, what it noted.

    ``wait_status`` is None for an interpreter that waits; ``killed_for_memory``: the kernel did, meanwhile.
    """

    verdict: int
    wait_status: int | None
    state: int
    reason: bytes
    killed_for_memory: bool


def judge(seen: Seen, limits: Limits) -> tuple[int, bytes]:
    """Return the status and the reason."""
    if seen.verdict == TIMEOUT:
        return TIMEOUT, f"not finished after {limits.seconds:g} s".encode()
    if seen.verdict == OUTPUT_LIMIT:
        return OUTPUT_LIMIT, f"more than {limits.output_bytes} bytes of output".encode()
    if seen.wait_status is not None and os.WIFSIGNALED(seen.wait_status):
        return _killed(os.WTERMSIG(seen.wait_status), seen, limits)
    code = 0 if seen.wait_status is None else os.WEXITSTATUS(seen.wait_status)
    status = _FROM_NOTE.get(seen.state)
    if code != 0 or status is None:
        return CRASHED, f"left by os._exit({code}) before its end".encode()
    return status, b"" if status == OK else seen.reason


def _killed(number: int, seen: Seen, limits: Limits) -> tuple[int, bytes]:
    if number == signal.SIGXCPU:
        return TIMEOUT, f"not finished after {limits.seconds:g} s".encode()
    if number == signal.SIGKILL and seen.killed_for_memory:
        return MEMORY, b"killed: the machine ran out of memory"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return CRASHED, f"killed by {name}".encode()
