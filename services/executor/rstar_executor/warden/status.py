"""Derives a program's status from the warden's observation: a pure function on plain data.

The kernel's view wins over the program's own. The status is never ``internal``: the client retries that elsewhere, and
a program could ask for it. Standard library only: this runs inside the warden.
"""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

from rstar_executor.interpreter import shared_memory
from rstar_executor.sandbox.limits import Limits

STATUSES = ("ok", "exception", "timeout", "memory", "output_limit", "crashed", "internal")
OK, EXCEPTION, TIMEOUT, MEMORY, OUTPUT_LIMIT, CRASHED, INTERNAL = range(len(STATUSES))

_STATUS_OF_STATE = {
    shared_memory.OK: OK,
    shared_memory.EXCEPTION: EXCEPTION,
    shared_memory.SYNTAX: EXCEPTION,
    shared_memory.MEMORY: MEMORY,
}


class Observation(NamedTuple):
    """How a program ended, as the warden saw it.

    ``exceeded`` is TIMEOUT or OUTPUT_LIMIT where the warden ended it, else OK; ``wait_status`` is None for an interpreter
    that is paused; ``state`` and ``reason`` are the program's own; ``killed_for_memory``: the kernel killed for memory.
    """

    exceeded: int
    wait_status: int | None
    state: int
    reason: bytes
    killed_for_memory: bool


def final_status(seen: Observation, limits: Limits) -> tuple[int, bytes]:
    """Return the status and the reason."""
    if seen.exceeded == TIMEOUT:
        return TIMEOUT, timeout_reason(limits)
    if seen.exceeded == OUTPUT_LIMIT:
        return OUTPUT_LIMIT, f"more than {limits.output_bytes} bytes of output".encode()
    if seen.wait_status is not None and os.WIFSIGNALED(seen.wait_status):
        return _killed(os.WTERMSIG(seen.wait_status), seen, limits)
    code = 0 if seen.wait_status is None else os.WEXITSTATUS(seen.wait_status)
    status = _STATUS_OF_STATE.get(seen.state)
    if code != 0 or status is None:
        return CRASHED, f"left by os._exit({code}) before its end".encode()
    return status, b"" if status == OK else seen.reason


def exit_code(status: int, seen: Observation, claimed: int) -> int | None:
    """Return the exit code of a script, negative for a signal; None when it did not finish in time.

    ``claimed``: its own exit code where it ended by itself.
    """
    if status == TIMEOUT:
        return None
    if seen.wait_status is not None and (code := os.waitstatus_to_exitcode(seen.wait_status)) != 0:
        return code
    return claimed if _STATUS_OF_STATE.get(seen.state, OK) != OK else 0


def timeout_reason(limits: Limits) -> bytes:
    """Return the reason of a program that did not finish in time."""
    return f"not finished after {limits.seconds:g} s".encode()


def _killed(number: int, seen: Observation, limits: Limits) -> tuple[int, bytes]:
    if number == signal.SIGXCPU:
        return TIMEOUT, timeout_reason(limits)
    if number == signal.SIGKILL and seen.killed_for_memory:
        return MEMORY, b"killed: the machine ran out of memory"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return CRASHED, f"killed by {name}".encode()
