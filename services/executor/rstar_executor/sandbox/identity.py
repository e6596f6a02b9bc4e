"""The layer *identity*: programs run as a user that owns nothing and cannot become another user.

Covered: root's power over files and processes (where the service is root, programs are user 65534), every capability,
set-user-ID programs, reading the warden's memory as a debugger.
Not covered: where the service itself is an ordinary user, programs are that user; the file layers protect its files.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

from rstar_executor.sandbox import kernel

NOBODY: Final = 65_534

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x2008_0522


def become_nobody() -> None:
    """Where this process is root: become user and group 65534. Raises ``OSError`` where that is refused."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def give_up_privileges() -> None:
    """Drop every capability for good; no executed file can give one back. Raises ``OSError``."""
    kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    for capability in range(64):
        try:
            kernel.prctl(_PR_CAPBSET_READ, capability)
            kernel.prctl(_PR_CAPBSET_DROP, capability)
        except OSError:  # no such capability, or not allowed to drop it: no_new_privs keeps it out of reach
            continue
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")


def set_inspectable(inspectable: bool) -> None:
    """Allow or forbid processes of the same user, programs among them, to read this process's memory and to debug it."""
    kernel.prctl(_PR_SET_DUMPABLE, int(inspectable))


def end_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when its parent dies."""
    kernel.prctl(_PR_SET_PDEATHSIG, signal_number)
