"""The results of scripts, as the server knows them, and their frames from a warden: pure functions on plain data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

from rstar.interfaces import Execution, ExecutionStatus
from rstar_executor.interpreter.shared_memory import REASON_BYTES
from rstar_executor.sandbox.limits import Limits
from rstar_executor.warden.script import HEAD, Script
from rstar_executor.warden.status import STATUSES

_PER_FILE_BYTES: Final = 32
_REST_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class ScriptExecution(Execution):
    """The result of one script.

    ``exit_code`` is negative for a signal and None where the script did not finish. ``cut``: standard output or error was
    longer than the limit. ``files``: contents by index in the script's ``fetch``; ``too_large``: indices of further ones.
    """

    stderr: str = ""
    exit_code: int | None = None
    cut: bool = False
    files: dict[int, bytes] = field(default_factory=dict)
    too_large: tuple[int, ...] = ()


def not_run(execution: Execution) -> ScriptExecution:
    """Return the result of a script that no warden has answered."""
    return ScriptExecution(execution.status, reason=execution.reason)


def largest_result(limits: Limits, script: Script) -> int:
    """Return the most bytes that the frame of a result may have."""
    files = script.fetch_bytes + _PER_FILE_BYTES * len(script.fetch)
    return 2 * limits.output_bytes + files + 6 * REASON_BYTES + _REST_BYTES


def read_result(frame: bytes) -> ScriptExecution:
    """Return the result in a frame. Raises ``ValueError`` and ``TypeError`` for one that is none."""
    (head_bytes,) = HEAD.unpack_from(frame)
    start = HEAD.size + head_bytes
    head = json.loads(frame[HEAD.size : start])
    status, milliseconds, exit_code, reason, cut, (stdout_bytes, stderr_bytes), sizes, too_large = head
    if len(frame) != start + stdout_bytes + stderr_bytes + sum(size for _, size in sizes):
        raise ValueError("a result of another length than it says")
    stderr_start = start + stdout_bytes
    end = stderr_start + stderr_bytes
    files = {}
    for index, size in sizes:
        files[int(index)] = frame[end : end + size]
        end += size
    return ScriptExecution(
        ExecutionStatus(STATUSES[status]),
        frame[start:stderr_start].decode("utf-8", "replace"),
        str(reason),
        float(milliseconds),
        stderr=frame[stderr_start : stderr_start + stderr_bytes].decode("utf-8", "replace"),
        exit_code=None if exit_code is None else int(exit_code),
        cut=bool(cut),
        files=files,
        too_large=tuple(map(int, too_large)),
    )
