"""The layer *identity*: programs run as a user that owns nothing and can become nobody else.

Covered: root's power over files and processes (where the service is root, programs are user 65534), every capability,
set-user-ID programs, the debugger's view into the warden.
Not covered: where the service itself is an ordinary user, programs are that user; the file layers keep its files.
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
    """Drop every capability for good; nothing that is executed can give one back. Raises ``OSError``."""
    kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    for capability in range(64):
        try:
            kernel.prctl(_PR_CAPBSET_READ, capability)
            kernel.prctl(_PR_CAPBSET_DROP, capability)
        except OSError:  # none of that number, or not allowed to drop it: it stays out of reach by no_new_privs
            continue
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")


def show(visible: bool) -> None:
    """Let others of the same user look into this process, or keep them, programs too, from that and from debugging it."""
    kernel.prctl(_PR_SET_DUMPABLE, int(visible))


def end_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when its parent dies."""
    kernel.prctl(_PR_SET_PDEATHSIG, signal_number)
