"""System calls for which Python 3.11 has no function, through the C library. They raise ``OSError`` as Python's own do."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from typing import Final

CLONE_PARENT: Final = 0x0000_8000
NEW_USER: Final = 0x1000_0000
NEW_MOUNTS: Final = 0x0002_0000
NEW_PIDS: Final = 0x2000_0000
NEW_IPC: Final = 0x0800_0000
NEW_NETWORK: Final = 0x4000_0000
NEW_HOSTNAME: Final = 0x0400_0000
NEW_CGROUP: Final = 0x0200_0000
NEW_TIME: Final = 0x0000_0080
NAMESPACES: Final = NEW_USER | NEW_MOUNTS | NEW_PIDS | NEW_IPC | NEW_NETWORK | NEW_HOSTNAME | NEW_CGROUP | NEW_TIME

_LIBC = ctypes.CDLL(None, use_errno=True)
# PyDLL does not release the interpreter's lock: a call that forks must not let another thread run. The calls that a fork
# makes share objects bound before it: each page with a Python object that a fork touches is copied in every fork.
_HOLDING = ctypes.PyDLL(None)
_BARE_CALL = _HOLDING.syscall
_BARE_CALL.restype = ctypes.c_long
_ERRNO = _HOLDING.__errno_location
_ERRNO.restype = ctypes.POINTER(ctypes.c_int)
_ZERO: Final = ctypes.c_long(0)

# Numbers of calls without a wrapper in the C library. Those from 424 on are the same on every machine.
_CLONE: Final = {"x86_64": 56, "aarch64": 220}.get(platform.machine())
LANDLOCK_CREATE_RULESET: Final = 444
LANDLOCK_ADD_RULE: Final = 445
LANDLOCK_RESTRICT_SELF: Final = 446


SUPPORTED: Final = _CLONE is not None
"""Whether this module knows the numbers for this kind of processor."""


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(option: int, *values: int) -> int:
    """Make the system call prctl. Raises ``OSError``."""
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    return _checked(_LIBC.prctl(option, *arguments), f"prctl {option}")


def unshare(flags: int) -> None:
    """Make the system call unshare. Raises ``OSError``."""
    _checked(_LIBC.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Make the system call mount. Raises ``OSError``."""
    encoded = [None if text is None else text.encode() for text in (source, target, kind, data)]
    _checked(_LIBC.mount(*encoded[:3], ctypes.c_ulong(flags), encoded[3]), f"mount {target}")


def unmount(target: str, flags: int) -> None:
    """Make the system call umount2. Raises ``OSError``."""
    _checked(_LIBC.umount2(target.encode(), flags), f"umount2 {target}")


def system_call(number: int, *arguments: object) -> int:
    """Make a system call by number. Raises ``OSError``."""
    return _checked(_LIBC.syscall(ctypes.c_long(number), *arguments), f"system call {number}")


def bare_call(number: int, *arguments: int) -> Callable[[], int]:
    """Return a function that makes a system call as cheaply as Python can, to be called in a fresh fork.

    It returns the call's result or a negative error number. Five arguments are passed, zeros where none are given.
    """
    bound = [ctypes.c_long(value) for value in (number, *arguments)]
    bound += [_ZERO] * (6 - len(bound))

    def call() -> int:
        result: int = _BARE_CALL(*bound)
        return -_ERRNO().contents.value if result < 0 else result

    return call


fork_sibling: Final = bare_call(_CLONE or 0, CLONE_PARENT | 17)
"""Fork so that the child's parent is the caller's parent; 0 in the child, which is the same interpreter.

Neither Python's nor the C library's fork handlers run: the child keeps its parent's random state, locks and buffers.
Only for a process with one thread.
"""
