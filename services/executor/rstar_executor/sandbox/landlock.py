"""The layer *Landlock*: the kernel's list of files that programs may open, inherited by every process they start.

Covered: reading any file or directory but Python and its libraries; writing, creating, linking and removing anywhere
but in their own directory; executing files; network ports (kernel 6.7 on); signals to processes outside and abstract
sockets (kernel 6.12 on).
Not covered: looking a path up (stat, readlink), changing modes, owners and times (seccomp refuses those).
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Sequence
from typing import Final

from rstar_executor.sandbox import kernel

_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_WRITABLE = (1 << 1) | _READ_FILE | _READ_DIR | (1 << 4) | (1 << 5) | (1 << 7) | (1 << 8) | (1 << 12)
"""Write, read, remove, make directories, files and symbolic links: no device, socket or FIFO."""
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
_HANDLED = (1 << 13) - 1
_FILE_ONLY = (1 << 0) | (1 << 1) | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_NETWORK = 3  # bind and connect of TCP
_SCOPES = 3  # abstract unix sockets, signals
SIGNALS_ABI: Final = 6


def version() -> int:
    """Return the kernel's version of Landlock; 0 where there is none."""
    try:
        return kernel.system_call(kernel.LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except OSError:
        return 0


def restrict(readable: Sequence[str], writable: Sequence[str], abi: int) -> None:
    """Restrict this process and all it starts, for good; ``abi`` is ``version()``. Needs no_new_privs.

    Raises ``OSError`` where the kernel refuses.
    """
    handled = _HANDLED
    write = _WRITABLE
    if abi >= 2:
        handled |= _REFER
        write |= _REFER
    if abi >= 3:
        handled |= _TRUNCATE
        write |= _TRUNCATE
    if abi >= 5:
        handled |= _IOCTL_DEVICE
    network = _NETWORK if abi >= 4 else 0
    scopes = _SCOPES if abi >= SIGNALS_ABI else 0
    attributes = struct.pack("=QQQ", handled, network, scopes)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = kernel.system_call(
        kernel.LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
    )
    try:
        for path in readable:
            _allow(ruleset, path, _READ_FILE | _READ_DIR)
        for path in writable:
            _allow(ruleset, path, write)
        kernel.system_call(kernel.LANDLOCK_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def scopes() -> int:
    """Return a ruleset that confines signals and abstract sockets to the process that enters it (kernel 6.12 on)."""
    attributes = struct.pack("=QQQ", 0, 0, _SCOPES)
    return kernel.system_call(
        kernel.LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
    )


def entering(ruleset: int) -> Callable[[], int]:
    """Return a function that enters ``scopes()`` in a fork; it returns a negative error number on failure."""
    return kernel.bare_call(kernel.LANDLOCK_RESTRICT_SELF, ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not os.path.isdir(path):
            access &= _FILE_ONLY
        rule = struct.pack("=Qi", access, beneath)
        kernel.system_call(kernel.LANDLOCK_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint32(0))
    finally:
        os.close(beneath)
