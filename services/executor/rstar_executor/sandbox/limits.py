"""The layer *limits*: how much of the machine one program may take.

Covered per process: CPU time, address space, size of a file, open descriptors, core dumps; per user: number of
processes. Wall time and output are the warden's.
Not covered: what all processes of one program take together; that is the control group's.
"""

from __future__ import annotations

import os
import resource
from typing import Final, NamedTuple

MIB: Final = 1 << 20
OPEN_FILES: Final = 64
PROCESSES: Final = 512
PROCESSES_OF_USER: Final = 2048
_LAST_WORDS = 32 * MIB  # address space that stays free for telling how a program ran out of it


class Limits(NamedTuple):
    """Limits of one program: wall seconds, MiB beyond the warm interpreter's own, bytes of output, MiB per file."""

    seconds: float
    memory_mib: int
    output_bytes: int
    file_mib: int


def enter_interpreter(counted_apart: bool) -> None:
    """Set what holds for every program of an interpreter; ``counted_apart``: its user has no other processes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    wanted = PROCESSES if counted_apart else PROCESSES_OF_USER
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted, most)
    resource.setrlimit(resource.RLIMIT_NPROC, (wanted, wanted))
    os.umask(0o077)


def limit_program(pid: int, limits: Limits, own_bytes: int) -> None:
    """Set the limits of a program that waits; ``own_bytes`` is what the warm interpreter takes itself.

    Raises ``OSError`` when it is gone.
    """
    seconds = int(limits.seconds) + 2  # the wall clock decides; this is for what escapes it
    resource.prlimit(pid, resource.RLIMIT_CPU, (seconds, seconds + 1))
    memory = own_bytes + limits.memory_mib * MIB
    resource.prlimit(pid, resource.RLIMIT_AS, (memory, memory + _LAST_WORDS))
    files = limits.file_mib * MIB
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (files, files))


def release_last_words() -> None:
    """Give the dying program's runner the memory kept back for telling why."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
