"""The layer *limits*: how much of the machine one program may take.

Covered per process: CPU time, address space, size of a file, open descriptors, core dumps; per user: number of
processes. The warden limits wall time and output.
Not covered: the sum over all processes of one program; the control group limits that.
"""

from __future__ import annotations

import os
import resource
from typing import Final, NamedTuple

MIB: Final = 1 << 20
OPEN_FILES: Final = 64
PROCESSES: Final = 512
PROCESSES_OF_USER: Final = 2048
_REPORT_RESERVE = 32 * MIB  # address space that stays free to report that a program ran out of it


class Limits(NamedTuple):
    """Limits of one program: wall seconds, MiB in addition to the zygote's own, bytes of output, MiB per file."""

    seconds: float
    memory_mib: int
    output_bytes: int
    file_mib: int


def enter_interpreter(counted_apart: bool) -> None:
    """Set the limits that all programs of a zygote share; ``counted_apart``: its user has no other processes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    wanted = PROCESSES if counted_apart else PROCESSES_OF_USER
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted, most)
    resource.setrlimit(resource.RLIMIT_NPROC, (wanted, wanted))
    os.umask(0o077)


def limit_program(pid: int, limits: Limits, own_bytes: int) -> None:
    """Set the limits of a preforked process; ``own_bytes`` is the address space of its zygote.

    Raises ``OSError`` when the process has ended.
    """
    seconds = int(limits.seconds) + 2  # the warden's wall clock decides; this ends a process that escapes it
    resource.prlimit(pid, resource.RLIMIT_CPU, (seconds, seconds + 1))
    memory = own_bytes + limits.memory_mib * MIB
    resource.prlimit(pid, resource.RLIMIT_AS, (memory, memory + _REPORT_RESERVE))
    files = limits.file_mib * MIB
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (files, files))


def release_report_reserve() -> None:
    """Give a program that ran out of memory the reserve, so that its runner can report the error."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
