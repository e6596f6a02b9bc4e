"""What stands between a program and everything else; ``enter`` is the one place where it is put up.

Covered: wall time and processes (by the zygote, which adopts and kills every descendant), CPU time, address
space, size of a file, open descriptors, core dumps, number of processes (not for root); standard input, inherited
descriptors, environment, controlling terminal, working directory; gaining privileges by executing a file.

Not covered, until namespaces, seccomp and Landlock are put up here: a program may read any file its user may, write
outside its working directory, open sockets, and signal any process of its user (a zygote killed that way is replaced,
and what the program left behind then survives it); memory and disk are limited per process and per file, not in
sum. Run the service as a user that owns nothing, in a container that has memory, process and disk limits.

Standard library only: this runs inside the zygotes. It refuses to decide what a limit should be.
"""

# pathlib is not loaded: it would weigh on every fork.
# ruff: noqa: PTH123

from __future__ import annotations

import ctypes
import os
import resource
import signal
from typing import NamedTuple

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_MIB = 1 << 20
_OPEN_FILES = 64
_PROCESSES = 1024
_LAST_WORDS = 32 * _MIB  # address space that stays free for telling how a program ran out of it

_prctl = ctypes.CDLL(None, use_errno=True).prctl


class Limits(NamedTuple):
    """Limits of one program: wall seconds, MiB beyond the warm interpreter's own, bytes of output, MiB per file."""

    seconds: float
    memory_mib: int
    output_bytes: int
    file_mib: int


def prepare() -> None:
    """Put up, once per zygote, what every program inherits. Raises ``OSError`` where the kernel refuses."""
    for option in (_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS):
        if _prctl(option, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"the kernel refuses prctl option {option}")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    # When memory runs out, a program goes before the service does.
    with open("/proc/self/oom_score_adj", "r+") as adjustment:
        if int(adjustment.read()) < 500:
            adjustment.seek(0)
            adjustment.write("500")
    os.umask(0o077)
    os.environ.clear()


def own_address_space() -> int:
    """Return the bytes of address space of this process: programs get theirs on top of it."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()


def enter(limits: Limits, own_bytes: int, stdout: int, stderr: int, directory: str) -> None:
    """Shut this fresh child in: own session, its two pipes beside the zygote's empty standard input, an empty directory, its limits.

    ``own_bytes`` is ``own_address_space`` of the zygote. Raises ``OSError`` or ``ValueError`` when any of it fails:
    the program must not run then.
    """
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.closerange(3, _OPEN_FILES)
    os.chdir(directory)
    setrlimit = resource.setrlimit
    seconds = int(limits.seconds) + 2  # the wall clock decides; this is for what escapes it
    setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    memory = own_bytes + limits.memory_mib * _MIB
    setrlimit(resource.RLIMIT_AS, (memory, memory + _LAST_WORDS))
    files = limits.file_mib * _MIB
    setrlimit(resource.RLIMIT_FSIZE, (files, files))
    setrlimit(resource.RLIMIT_NPROC, (_PROCESSES, _PROCESSES))


def release_last_words() -> None:
    """Give the dying program's runner the memory kept back for telling why."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
